#include "src/train/sweep_spec.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <set>

#include "src/config/text.h"
#include "src/core/error.h"
#include "src/core/file.h"

namespace kiln::train {
namespace {

// Of an arm's name and a candidate's label, in bytes: with ",seed=..." and ".log" it must still be a file's name.
constexpr size_t kLongestName = 200;

using nlohmann::ordered_json;  // settings apply, and grids vary, in the order of the file

// An object of the spec, and where it stands, for messages.
struct Section {
  const ordered_json& object;
  std::string where;

  [[noreturn]] void refuse(const std::string& message, const std::string& hint) const {
    throw Error(ExitCode::usage, fmt::format("{}: {}", where, message), hint);
  }

  void check_keys(std::initializer_list<const char*> known) const {
    if (!object.is_object()) refuse("expected an object", "write { ... }");
    for (const auto& [key, value] : object.items()) {
      if (std::find(known.begin(), known.end(), key) != known.end()) continue;
      const std::vector<std::string> names(known.begin(), known.end());
      const std::string other = config::nearest(key, names);
      refuse(fmt::format("there is no key \"{}\"", key),
             fmt::format("{}the keys here are {}",
                         other.empty() ? "" : fmt::format("did you mean \"{}\"? ", other),
                         fmt::join(names, ", ")));
    }
  }

  std::string text(const char* key, const char* hint) const {
    const auto found = object.find(key);
    if (found == object.end() || !found->is_string() || found->get_ref<const std::string&>().empty()) {
      refuse(fmt::format("\"{}\" must be there and hold text", key), hint);
    }
    return found->get<std::string>();
  }

  void refuse_own_key(const std::string& name) const {
    if (name != "output.dir" && name != "train.seed") return;
    refuse(fmt::format("\"{}\" cannot be set here", name),
           "the sweep sets output.dir itself; seeds stand under \"final\": {\"seeds\": [1, 2, 3]}");
  }

  const ordered_json* array(const char* key) const {
    const auto found = object.find(key);
    if (found == object.end()) return nullptr;
    if (!found->is_array() || found->empty())
      refuse(fmt::format("\"{}\" must be a list that is not empty", key), "write [ ... ]");
    return &*found;
  }

  Settings settings(const char* key) const {
    Settings result;
    const auto found = object.find(key);
    if (found == object.end()) return result;
    if (!found->is_object()) {
      refuse(fmt::format("\"{}\" must be an object", key),
             R"(write {"optimizer.lr": 0.002, ...}, as for --set)");
    }
    for (const auto& [name, value] : found->items()) {
      if (value.is_structured() || value.is_null()) {
        refuse(fmt::format("\"{}\" under \"{}\" must be a number, text, true or false", name, key),
               R"(name one key with dots: "optimizer.lr")");
      }
      refuse_own_key(name);
      result.emplace_back(name, value.dump());
    }
    return result;
  }

  // "steps", which stands before what "set" says of a stage.
  Settings stage() const {
    Settings result = settings("set");
    const auto steps = object.find("steps");
    if (steps == object.end()) return result;
    for (const auto& [key, value] : result) {
      if (key == "train.steps")
        refuse("\"steps\" and \"train.steps\" both say how long it trains", "drop one");
    }
    result.insert(result.begin(), {"train.steps", fmt::format("{}", number(*steps, "steps", 1))});
    return result;
  }

  int64_t number(const ordered_json& value, const char* key, int64_t least) const {
    if (!value.is_number_integer() || value.get<int64_t>() < least) {
      refuse(fmt::format("\"{}\" must be a whole number, at least {}", key, least), "");
    }
    return value.get<int64_t>();
  }
};

std::vector<Settings> multiplied_out(const Section& arm) {
  std::vector<Settings> candidates{{}};
  const auto grid = arm.object.find("grid");
  if (grid == arm.object.end()) return candidates;
  if (!grid->is_object())
    arm.refuse("\"grid\" must be an object", R"(write {"optimizer.lr": [0.001, 0.002]})");
  const Section own{*grid, arm.where + ".grid"};
  for (const auto& [key, values] : grid->items()) {
    own.refuse_own_key(key);
    if (!values.is_array() || values.empty()) {
      arm.refuse(fmt::format("\"{}\" in the grid must be a list that is not empty", key),
                 R"(write {"optimizer.lr": [0.001, 0.002]})");
    }
    std::vector<Settings> longer;
    for (const Settings& candidate : candidates) {
      for (const ordered_json& value : values) {
        if (value.is_structured() || value.is_null()) {
          arm.refuse(fmt::format("the values of \"{}\" in the grid must be numbers or text", key), "");
        }
        longer.push_back(candidate);
        longer.back().emplace_back(key, value.dump());
      }
    }
    candidates = std::move(longer);
  }
  std::set<std::string> labels;  // which name folders
  for (const Settings& candidate : candidates) {
    const std::string name = label(candidate);
    if (name.size() > kLongestName) {
      own.refuse(fmt::format("the label \"{}\" has {} bytes, a folder's name may have {}", name, name.size(),
                             kLongestName),
                 "shorten the values, or move keys of one value to \"set\"");
    }
    if (!labels.insert(name).second) {
      own.refuse(
          fmt::format("two candidates have the label \"{}\"", name),
          "each needs a folder of its own: drop values that stand twice, or make an arm of its own of one");
    }
  }
  return candidates;
}

SweepArm read_arm(const Section& section) {
  section.check_keys({"name", "config", "set", "grid", "notes"});
  SweepArm arm;
  arm.name = section.text("name", "it names the arm's folder and its row in the table");
  if (!std::all_of(arm.name.begin(), arm.name.end(),
                   [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_' || c == '.'; }) ||
      arm.name.front() == '.') {
    section.refuse(fmt::format("\"{}\" cannot be a folder's name", arm.name), "use letters, digits, - and _");
  }
  if (arm.name.size() > kLongestName)
    section.refuse(fmt::format("the name has {} bytes, it may have {}", arm.name.size(), kLongestName),
                   "shorten it");
  arm.where = section.where;
  arm.config = section.text("config", "the config to train: configs/gpt2-mini/adamw.json");
  arm.set = section.settings("set");
  arm.candidates = multiplied_out(section);
  return arm;
}

void append(SweepRun& run, const Settings& settings, const std::string& origin) {
  for (const auto& [key, value] : settings) {
    run.overrides.push_back(fmt::format("{}={}", key, value));
    run.origins.push_back(origin);
  }
}

// A rung's and the final's settings win, so a grid of the same key would train one run under several names.
void check_grids(const std::vector<SweepArm>& arms, const Settings& stage, const std::string& name) {
  for (const SweepArm& arm : arms) {
    for (const auto& [key, value] : arm.candidates.front()) {
      const auto is_same = [&key = key](const auto& setting) { return setting.first == key; };
      if (std::none_of(stage.begin(), stage.end(), is_same)) continue;
      throw Error(
          ExitCode::usage, fmt::format("{}.grid: \"{}\" is also set by {}", arm.where, key, name),
          fmt::format("what {} sets holds for every candidate: drop the key from one of the two", name));
    }
  }
}

SweepRun run_of(const SweepSpec& spec, const SweepArm& arm, const Settings& candidate, const Settings& stage,
                const std::string& stage_name, std::string what, std::string folder) {
  SweepRun run{std::move(what), std::move(folder), arm.config, {}, {}};
  append(run, spec.set, fmt::format("{}: set", spec.where));
  append(run, arm.set, fmt::format("{}.set", arm.where));
  append(run, candidate, fmt::format("{}.grid", arm.where));
  append(run, stage, fmt::format("{}: {}", spec.where, stage_name));
  append(run, {{"output.dir", ordered_json(run.folder).dump()}}, fmt::format("{}: output", spec.where));
  return run;
}

}  // namespace

SweepSpec load_sweep_spec(const std::filesystem::path& path) {
  const ordered_json root =
      ordered_json::parse(read_file(path), nullptr, /*allow_exceptions=*/false, /*ignore_comments=*/false);
  const Section spec{root, path.string()};
  if (root.is_discarded()) spec.refuse("this is not JSON", "python3 -m json.tool FILE says where it breaks");
  spec.check_keys({"output", "set", "arms", "rungs", "final", "notes"});

  SweepSpec result;
  result.where = path.string();
  result.output = spec.text("output", "the folder that gets all runs and the table: runs/my-sweep");
  result.set = spec.settings("set");
  const ordered_json* arms = spec.array("arms");
  if (!arms)
    spec.refuse("\"arms\" is missing",
                R"(write "arms": [{"name": "adamw", "config": "configs/gpt2-mini/adamw.json"}])");
  std::set<std::string> names;
  for (size_t i = 0; i < arms->size(); i++) {
    result.arms.push_back(read_arm({(*arms)[i], fmt::format("{}: arms[{}]", path.string(), i)}));
    if (!names.insert(result.arms.back().name).second) {
      spec.refuse(fmt::format("two arms are named \"{}\"", result.arms.back().name),
                  "each needs a folder of its own");
    }
  }
  if (const ordered_json* rungs = spec.array("rungs")) {
    for (size_t i = 0; i < rungs->size(); i++) {
      const Section section{(*rungs)[i], fmt::format("{}: rungs[{}]", path.string(), i)};
      section.check_keys({"steps", "set", "keep"});
      SweepRung rung{section.stage(), 1};
      if (section.object.contains("keep")) rung.keep = section.number(section.object["keep"], "keep", 1);
      check_grids(result.arms, rung.set, fmt::format("rungs[{}]", i));
      result.rungs.push_back(std::move(rung));
    }
  }
  if (root.contains("final")) {
    const Section last{root["final"], fmt::format("{}: final", path.string())};
    last.check_keys({"steps", "set", "seeds"});
    result.final_set = last.stage();
    check_grids(result.arms, result.final_set, "final");
    const ordered_json* seeds = last.array("seeds");
    if (!seeds) last.refuse("\"seeds\" is missing", "write \"seeds\": [1, 2, 3]");
    std::set<uint64_t> different;
    for (const ordered_json& seed : *seeds) {
      result.seeds.push_back(static_cast<uint64_t>(last.number(seed, "seeds", 0)));
      if (!different.insert(result.seeds.back()).second) last.refuse("a seed stands twice in \"seeds\"", "");
    }
  }
  if (result.rungs.empty() && result.seeds.empty()) {
    spec.refuse("there is nothing to run",
                "give \"rungs\", \"final\" or both; kiln sweep --help shows an example");
  }
  return result;
}

SweepRun rung_run(const SweepSpec& spec, const SweepArm& arm, const Settings& candidate, size_t rung) {
  return run_of(spec, arm, candidate, spec.rungs[rung].set, fmt::format("rungs[{}]", rung),
                fmt::format("{}, rung {}, {}", arm.name, rung + 1, label(candidate)),
                fmt::format("{}/{}/rung{}/{}", spec.output, arm.name, rung + 1, label(candidate)));
}

SweepRun final_run(const SweepSpec& spec, const SweepArm& arm, const Settings& candidate, uint64_t seed) {
  SweepRun run = run_of(spec, arm, candidate, spec.final_set, "final",
                        fmt::format("{}, final, {}, seed {}", arm.name, label(candidate), seed),
                        fmt::format("{}/{}/final/{},seed={}", spec.output, arm.name, label(candidate), seed));
  append(run, {{"train.seed", fmt::format("{}", seed)}}, fmt::format("{}: final.seeds", spec.where));
  return run;
}

std::string label(const Settings& candidate) {
  std::string text;
  for (const auto& [key, value] : candidate) {
    std::string plain;
    for (const char c : value) {
      if (c != '"') plain += c == '/' || c == ' ' ? '_' : c;
    }
    text += fmt::format("{}{}={}", text.empty() ? "" : ",", key.substr(key.rfind('.') + 1), plain);
  }
  return text.empty() ? "default" : text;
}

}  // namespace kiln::train
