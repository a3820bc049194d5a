// Checkpoints: folders `<run>/checkpoints/step_00000123` with model.safetensors (fp32 masters),
// optimizer.safetensors (every state tensor) and manifest.json, which holds the rest, the sizes and checksums
// of the other two and one of itself, and is written last.
//
// A checkpoint appears under its name by one rename of a folder whose every file is on disk, so whatever
// instruction a run dies at, a folder with that name is complete. Names that begin with ".tmp-" are
// unfinished or half deleted; a ".old-" is a complete checkpoint that is being replaced by another of the
// same step. One process writes at a time (run_lock.h).
//
// Failures throw Error(ExitCode::data) that names the file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "optim/optimizer_set.h"
#include "src/core/log.h"
#include "src/device/parameters.h"
#include "src/train/manifest.h"

namespace kiln::train {

// Writes a checkpoint and returns its folder; first it removes what an earlier crash left. Tensors go from
// their memory to the file: no allocation exceeds 64 KiB (as long as the config's text and the guards' windows do not). After an
// error the older checkpoints are there as before, and the space that the new one took is free again.
std::filesystem::path save_checkpoint(const std::filesystem::path& run, const CheckpointState& state,
                                      const ParameterTable& parameters,
                                      const optim::OptimizerSet& optimizers);

using Warn = std::function<void(const std::string&)>;

// What of a checkpoint is wanted, and so has to be there and intact besides the manifest: a model that is
// only used needs no optimizer state.
enum class CheckpointPart { everything, weights };

// The newest intact checkpoint; none if there is none. A folder whose manifest is missing or broken, or whose
// files are missing, of another size or of another checksum, is passed over with a warning that says why.
// Changes nothing on disk.
std::optional<std::filesystem::path> find_latest_checkpoint(const std::filesystem::path& run,
                                                            const Warn& warn = log_warning,
                                                            CheckpointPart part = CheckpointPart::everything);

// Whether `path` looks like a checkpoint (a manifest, or the name of one) rather than a run. Throws
// Error(ExitCode::data) when it is neither.
bool is_checkpoint(const std::filesystem::path& path);

// Whether the run has any folder with a checkpoint's name, intact or not.
bool has_checkpoints(const std::filesystem::path& run);

// Reads a checkpoint into parameters and optimizer state, both bound. Everything is checked first -
// checksums, the same names, shapes and types on both sides, nothing missing, nothing left over - so after an
// error no number has changed.
CheckpointState load_checkpoint(const std::filesystem::path& folder, ParameterTable& parameters,
                                optim::OptimizerSet& optimizers);

// The weights alone, into parameters that are bound, checked likewise.
CheckpointState load_weights(const std::filesystem::path& folder, ParameterTable& parameters);

// Only the manifest, checked against its own checksum and the sizes of the files.
CheckpointState read_manifest(const std::filesystem::path& folder,
                              CheckpointPart part = CheckpointPart::everything);

// All that it says, without a look at the files: they may be missing or other.
Manifest read_manifest_file(const std::filesystem::path& folder);

// Why a file of the folder is not what its entry says, "" if it is: that it is missing or has another size; with
// `content` its checksum is compared too, which reads all of it.
std::string file_problem(const std::filesystem::path& folder, const CheckpointFile& file, bool content);

// Reads every byte and compares the checksums as well.
CheckpointState verify_checkpoint(const std::filesystem::path& folder,
                                  CheckpointPart part = CheckpointPart::everything);

// Removes all checkpoints older than the newest `keep` (>= 1) complete ones, except those of steps that are
// multiples of `keep_every` (0: no exceptions). What cannot be removed stays, with a warning that says why.
void prune_checkpoints(const std::filesystem::path& run, int64_t keep, int64_t keep_every,
                       const Warn& warn = log_warning);

}  // namespace kiln::train
