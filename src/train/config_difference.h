// May a run that was started with one config go on with another?
#pragma once

#include <string>
#include <vector>

namespace kiln::train {

// "optimizer.lr: 0.001 -> 0.002" for every key that differs and that changes what the run computes. Keys that only say
// how often to look (validation, sampling, checkpoint, metrics, output) or where to compute (device) may differ, but for those in `also`. Throws
// Error(ExitCode::data) when `old_json` is no config, which has come from a file.
std::vector<std::string> meaningful_differences(const std::string& old_json, const std::string& new_json,
                                                const std::vector<std::string>& also = {});

}  // namespace kiln::train
