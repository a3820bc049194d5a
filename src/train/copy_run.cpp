#include "src/train/copy_run.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "src/config/load.h"
#include "src/core/error.h"
#include "src/core/file.h"
#include "src/train/checkpoint.h"
#include "src/train/checkpoint_folders.h"

namespace kiln::train {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kCopiedFrom = "copied_from.json";

void copy_checkpoint(const fs::path& from, const fs::path& to) {
  make_folder(to);
  for (const auto& entry : fs::directory_iterator(from)) {
    const fs::path file = to / entry.path().filename();
    std::error_code no_link;
    fs::create_hard_link(entry.path(), file, no_link);
    if (!no_link) continue;
    fs::copy_file(entry.path(), file);
    sync_file(file);
  }
  sync_directory(to);
}

}  // namespace

int64_t copy_run(const fs::path& from, const config::Config& config) {
  const fs::path folder = config.output.dir, unfinished = fmt::format("{}.copying", folder.string());
  const auto checkpoint = find_latest_checkpoint(from);
  if (!checkpoint) return 0;
  const int64_t step = read_manifest(*checkpoint).step;
  try {
    fs::remove_all(unfinished);
    make_folder(unfinished);
    make_folder(root(unfinished));
    copy_checkpoint(*checkpoint, root(unfinished) / folder_name(step));
    sync_directory(root(unfinished));
    for (const char* log : {"metrics.jsonl", "main.log"}) {
      if (fs::exists(from / log)) write_file_atomically(unfinished / log, read_file(from / log));
    }
    write_file_atomically(unfinished / fmt::format("config_until_step_{}.json", step),
                          read_file(from / "config.json"));
    write_file_atomically(unfinished / "config.json", config::to_json(config) + "\n");
    const json origin = {{"folder", from.string()}, {"step", step}};
    write_file_atomically(unfinished / kCopiedFrom,
                          origin.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
  } catch (const fs::filesystem_error& e) {
    throw Error(ExitCode::data,
                fmt::format("cannot copy {} to {}: {}", from.string(), folder.string(), e.code().message()),
                file_error_hint(e.code().value()));
  }
  move_folder(unfinished, folder);
  sync_directory(folder.parent_path());
  return step;
}

int64_t copied_step(const fs::path& folder) {
  if (!is_there(folder / kCopiedFrom)) return 0;
  const json origin = json::parse(read_file(folder / kCopiedFrom), nullptr, /*allow_exceptions=*/false);
  const bool readable = origin.is_object() && origin.contains("step") && origin["step"].is_number_unsigned();
  return readable ? origin["step"].get<int64_t>() : 0;
}

}  // namespace kiln::train
