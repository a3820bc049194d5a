// The names of checkpoints on disk, and moving, listing and removing them so that a crash at any instruction
// leaves only complete checkpoints under names that count. See checkpoint.h for what the names mean.
//
// Failures throw Error(ExitCode::data) that names the path.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace kiln::train {

inline constexpr std::string_view kTemporary = ".tmp-", kReplaced = ".old-", kStep = "step_";

std::filesystem::path root(
    const std::filesystem::path& run);  // the folder that holds all checkpoints of a run
std::string folder_name(int64_t step);

struct Candidate {
  int64_t step;
  bool replaced;  // ".old-": counts only where the new one is missing or broken
  std::filesystem::path path;
};
std::vector<Candidate> candidates(const std::filesystem::path& run);  // newest first

bool is_there(const std::filesystem::path& path);
void make_folder(const std::filesystem::path& path);
void move_folder(const std::filesystem::path& from, const std::filesystem::path& to);

// Finishes what a crash interrupted: a replacement that had not arrived is undone, all other leftovers go.
void tidy(const std::filesystem::path& run);

// Removes what a crash left unfinished; replaced checkpoints stay, as long as one may be needed.
void remove_temporaries(const std::filesystem::path& run);

// Takes the name away first: a crash midway leaves no half checkpoint that looks whole.
void remove_checkpoint(const std::filesystem::path& path);

}  // namespace kiln::train
