// What `kiln sweep` is asked to do: arms (one config each) with grids of --set values, rungs of successive halving,
// seeds for what is left.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace kiln::train {

// "optimizer.lr" and its value as JSON text, in the order of the file.
using Settings = std::vector<std::pair<std::string, std::string>>;

struct SweepArm {
  std::string name;    // a folder's name
  std::string config;  // path, as on the command line
  Settings set;
  std::vector<Settings>
      candidates;          // the grid multiplied out, its first key varying slowest; one empty: no grid
  std::string where = {};  // "spec.json: arms[0]", for messages
};

// Every candidate that is left trains with these settings: a run of its own with a whole schedule. The best ones stay.
struct SweepRung {
  Settings set;
  int64_t keep = 1;
};

struct SweepSpec {
  std::string output;  // folder of all runs
  Settings set;        // for every run
  std::vector<SweepArm> arms;
  std::vector<SweepRung> rungs;
  Settings final_set;           // of the runs of what the rungs left
  std::vector<uint64_t> seeds;  // one run each; empty: the rungs are all
  std::string where = {};       // the file's path, for messages
};

// Throws Error(ExitCode::usage) with the file, the key, what is wrong and what is expected.
SweepSpec load_sweep_spec(const std::filesystem::path& path);

// One run of a sweep.
struct SweepRun {
  std::string what;                    // "adamw, rung 1, lr=0.002"
  std::string folder;                  // output.dir
  std::string config;                  // path
  std::vector<std::string> overrides;  // KEY=VALUE, as --set takes them
  std::vector<std::string> origins;    // of each override: "spec.json: arms[0].grid"
};

// The run of a candidate on a rung (counted from 0), and of an arm's survivor with a seed.
SweepRun rung_run(const SweepSpec& spec, const SweepArm& arm, const Settings& candidate, size_t rung);
SweepRun final_run(const SweepSpec& spec, const SweepArm& arm, const Settings& candidate, uint64_t seed);

// "lr=0.002,b2=0.95": the last words of the keys, for tables and folders; "default" for no settings.
std::string label(const Settings& candidate);

}  // namespace kiln::train
