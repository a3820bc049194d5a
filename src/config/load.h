// Reading a config: JSON file, "extends", --set overrides, validation.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "src/config/config.h"

namespace kiln::config {

// Loads `path`, the chain of files it "extends" (paths relative to the file that names them; the extending
// file wins key by key), then applies `overrides` of the form "optimizer.lr=0.002" in order, and validates
// every key and the relations between them. Every file of the chain must be valid by itself, also where it is
// overridden. An override's value is JSON if it parses as JSON, else text; for a key that holds text it is
// taken as it stands unless quoted. Throws Error(ExitCode::usage) with file, line and column (or the
// override), the key, what is wrong, and a hint: the nearest known key, the range, the choices.
Config load(const std::filesystem::path& path, const std::vector<std::string>& overrides = {});

// Where the files that are extended come from. `read` gives a file's text or throws Error; `identity` is the same for
// every way to write the path of one file.
struct Files {
  std::function<std::string(const std::filesystem::path&)> read, identity;
};
Files files_on_disk();
Files no_files();  // refuses every one: for text that must not lead anywhere, such as the config in a checkpoint

// From text instead of a file; `name` stands for the file in messages and its folder resolves "extends".
Config parse(const std::string& text, const std::filesystem::path& name,
             const std::vector<std::string>& overrides = {}, const Files& files = files_on_disk());

// A file that holds the keys of "optimizer" alone, as the object that stands under that name in a config.
Optimizer load_optimizer(const std::filesystem::path& path, const std::vector<std::string>& overrides = {});
Optimizer parse_optimizer(const std::string& text, const std::filesystem::path& name,
                          const std::vector<std::string>& overrides = {});

// Every key with its value, as JSON that load() accepts and resolves to the same Config.
std::string to_json(const Config& config);

// The schema as text for people: every key (or those that start with `prefix`) with default, unit, range,
// sentence. Throws Error(ExitCode::usage) when no key starts with it.
std::string explain(const std::string& prefix = {});

// The same for every key as a page of Markdown: docs/config.md is this text.
std::string markdown();

}  // namespace kiln::config
