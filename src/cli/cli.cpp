#include "src/cli/cli.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <iostream>
#include <system_error>

#include "src/cli/run.h"
#include "src/core/error.h"
#include "src/core/log.h"
#include "src/train/versions.h"

namespace kiln::cli {
namespace {

constexpr const char* kFooter = R"(Examples:
  kiln train configs/gpt2-mini/adamw.json
  kiln train configs/gpt2-mini/adamw.json --set optimizer.lr=0.002 --set train.steps=500
  kiln train configs/gpt2-mini/adamw.json --resume
  kiln eval runs/gpt2-mini-adamw
  kiln generate runs/gpt2-mini-adamw --prompt "Once upon a time" --tokens 200
  kiln plan configs/gpt2-124m/adamw.json
  kiln config --explain optimizer
  kiln bench configs/gpt2-mini/muon.json
  kiln inspect runs/gpt2-mini-adamw
  kiln compare runs/gpt2-mini-adamw runs/gpt2-mini-muon
  kiln data train-tokenizer --vocab-size 8192 --out cache/mine/tokenizer.json notes.txt articles.jsonl
  kiln data prepare --tokenizer cache/mine/tokenizer.json --out cache/mine notes.txt articles.jsonl
  kiln data inspect cache/mine
  kiln replay --optimizer muon.json --tensors in.safetensors --output out.safetensors
  kiln spectrum runs/gpt2-mini-kl-shampoo --rank 32
  kiln sweep sweep.json --dry-run

Exit codes: 0 success, 1 failure, 2 command line or config, 3 data and files (text, shards, checkpoints, disk), 4 device,
5 stopped by a signal after writing a checkpoint.)";

std::string names_of_commands(const CLI::App& app) {
  std::string names;
  for (const CLI::App* command : app.get_subcommands({}))
    names += (names.empty() ? "" : ", ") + command->get_name();
  return names;
}

// The innermost command that was named, and how it is called: "kiln data prepare".
std::pair<const CLI::App*, std::string> named_command(const CLI::App& app) {
  const CLI::App* command = &app;
  std::string call = app.get_name();
  while (!command->get_subcommands().empty()) {
    command = command->get_subcommands().front();
    call += " " + command->get_name();
  }
  return {command, call};
}

// CLI11 would only say that a subcommand is required, and "Could not convert: --threads = x".
std::string sentence(const CLI::ParseError& error, const CLI::App& app) {
  const auto [command, call] = named_command(app);
  if (dynamic_cast<const CLI::RequiredError*>(&error) && !command->get_subcommands({}).empty()) {
    return fmt::format("{} needs a command: {}", call, names_of_commands(*command));
  }
  if (dynamic_cast<const CLI::ConversionError*>(&error)) {
    const std::string what = error.what(), prefix = "Could not convert: ";
    return fmt::format("{} is not a number that fits here",
                       what.starts_with(prefix) ? what.substr(prefix.size()) : what);
  }
  return error.what();
}

void check_command(const CLI::App& app, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return;
  const std::string word = argv[1];
  for (const CLI::App* command : app.get_subcommands({})) {
    if (command->get_name() == word) return;
  }
  throw Error(ExitCode::usage, fmt::format("there is no command \"{}\"", word),
              fmt::format("the commands are {}; kiln --help explains them", names_of_commands(app)));
}

int report(const Error& error) {
  log_error(error.what());
  if (!error.hint().empty()) std::fprintf(stderr, "  hint: %s\n", error.hint().c_str());
  return static_cast<int>(error.code());
}

// What a command printed may still wait in buffers, and a full disk shows only when they are written. A reader that has
// gone away has seen enough.
int after_output(int code) {
  errno = 0;
  std::cout.flush();
  if ((std::fflush(stdout) == 0 && std::cout) || errno == EPIPE) return code;
  const int lost = report(lost_output(std::strerror(errno)));
  return code == 0 ? lost : code;
}

int parse_and_run(CLI::App& app, const int& exit_code, int argc, char** argv) {
  try {
    check_command(app, argc, argv);
    app.parse(argc, argv);
    return exit_code;
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // help, version
    return report(
        Error(ExitCode::usage, sentence(e, app), fmt::format("{} --help", named_command(app).second)));
  } catch (const Error& e) {
    return report(e);
  } catch (const std::exception& e) {
    if (std::ferror(stdout)) return report(lost_output(e.what()));
    log_error(e.what());
    return static_cast<int>(ExitCode::failure);
  }
}

}  // namespace

Error lost_output(const std::string& why) {
  return {ExitCode::data, fmt::format("cannot write to standard output: {}", why), "is the disk full?"};
}

int run(int argc, char** argv) {
  CLI::App app("Pre-trains GPT-2 and LLaMA models from a JSON config, on the CPU, with hand-written kernels.",
               "kiln");
  app.footer(kFooter);
  app.require_subcommand(1);
  app.set_version_flag(
      "--version", [] { return train::versions_text(); }, "Versions, backends, instruction set, libraries");
  int exit_code = 0;
  add_train(app, exit_code);
  add_eval(app, exit_code);
  add_generate(app, exit_code);
  add_plan(app, exit_code);
  add_config(app, exit_code);
  add_data(app, exit_code);
  add_inspect(app, exit_code);
  add_compare(app, exit_code);
  add_bench(app, exit_code);
  add_replay(app, exit_code);
  add_spectrum(app, exit_code);
  add_sweep(app, exit_code);
  return after_output(parse_and_run(app, exit_code, argc, argv));
}

}  // namespace kiln::cli
