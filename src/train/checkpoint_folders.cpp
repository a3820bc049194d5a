#include "src/train/checkpoint_folders.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <system_error>

#include "src/core/error.h"
#include "src/core/file.h"

namespace kiln::train {
namespace {

namespace fs = std::filesystem;

// Runs a change of the file system; its error as ours.
template <class Change>
void change(const char* what, const fs::path& path, Change&& action) {
  std::error_code code;
  action(code);
  if (code) {
    throw Error(ExitCode::data, fmt::format("cannot {} {}: {}", what, path.string(), code.message()),
                "check the path, its permissions and the disk");
  }
}

void delete_folder(const fs::path& path) {
  change("remove", path, [&](std::error_code& code) { fs::remove_all(path, code); });
}

std::optional<Candidate> parse_name(const fs::path& path) {
  const std::string name = path.filename().string();
  std::string_view digits = name;
  const bool replaced = digits.starts_with(kReplaced);
  if (replaced) digits.remove_prefix(kReplaced.size());
  if (!digits.starts_with(kStep)) return std::nullopt;
  digits.remove_prefix(kStep.size());
  int64_t step = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
  if (error != std::errc() || digits.empty() || digits[0] == '-' || end != digits.data() + digits.size()) {
    return std::nullopt;
  }
  return Candidate{step, replaced, path};
}

std::vector<fs::path> entries(const fs::path& folder) {
  std::vector<fs::path> paths;
  change("list", folder, [&](std::error_code& code) {
    for (fs::directory_iterator it(folder, code), end; !code && it != end; it.increment(code)) {
      paths.push_back(it->path());
    }
    if (code == std::errc::no_such_file_or_directory) code.clear();  // no checkpoint yet
  });
  return paths;
}

}  // namespace

fs::path root(const fs::path& run) {
  return run / "checkpoints";
}
std::string folder_name(int64_t step) {
  return fmt::format("{}{:08}", kStep, step);
}

void move_folder(const fs::path& from, const fs::path& to) {
  change("rename", from, [&](std::error_code& code) { fs::rename(from, to, code); });
}

void make_folder(const fs::path& path) {
  change("create", path, [&](std::error_code& code) { fs::create_directories(path, code); });
}

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

std::vector<Candidate> candidates(const fs::path& run) {
  std::vector<Candidate> found;
  for (const fs::path& path : entries(root(run))) {
    if (auto c = parse_name(path)) found.push_back(std::move(*c));
  }
  std::sort(found.begin(), found.end(), [](const Candidate& a, const Candidate& b) {
    return a.step != b.step ? a.step > b.step : a.replaced < b.replaced;
  });
  return found;
}

void tidy(const fs::path& run) {
  for (const fs::path& path : entries(root(run))) {
    const std::string name = path.filename().string();
    const fs::path original = path.parent_path() / name.substr(std::min(name.size(), kReplaced.size()));
    if (name.starts_with(kReplaced) && !is_there(original)) {
      move_folder(path, original);
    } else if (name.starts_with(kReplaced) || name.starts_with(kTemporary)) {
      delete_folder(path);
    }
  }
}

void remove_temporaries(const fs::path& run) {
  for (const fs::path& path : entries(root(run))) {
    if (path.filename().string().starts_with(kTemporary)) delete_folder(path);
  }
}

void remove_checkpoint(const fs::path& path) {
  const fs::path doomed = path.parent_path() / (std::string(kTemporary) + path.filename().string());
  delete_folder(doomed);
  move_folder(path, doomed);
  sync_directory(path.parent_path());
  delete_folder(doomed);
}

}  // namespace kiln::train
