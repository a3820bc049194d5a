#include "src/cli/cli.h"

#include <cstdio>
#include <exception>

#include "src/core/error.h"
#include "src/core/log.h"
#include "src/train/versions.h"

namespace kiln::cli {
namespace {

constexpr const char* kFooter = R"(Examples:
  kiln train configs/gpt2-mini/adamw.json
  kiln train configs/gpt2-mini/adamw.json --set optimizer.lr=0.002 --set train.steps=500
  kiln train configs/gpt2-mini/adamw.json --resume
  kiln plan configs/gpt2-124m/adamw.json
  kiln config --explain optimizer
  kiln data prepare --out cache/mine notes.txt articles.jsonl
  kiln replay --optimizer muon.json --tensors in.safetensors --output out.safetensors

Exit codes: 0 success, 1 failure, 2 command line or config, 3 data (text, shards, checkpoints), 4 device,
5 stopped by a signal after writing a checkpoint.)";

}  // namespace

int run(int argc, char** argv) {
  CLI::App app("Pre-trains GPT-2 models from a JSON config, on the CPU, with hand-written kernels.", "kiln");
  app.footer(kFooter);
  app.require_subcommand(1);
  app.set_version_flag("--version", [] { return train::versions_text(); }, "Versions, backends, instruction set, libraries");
  int exit_code = 0;
  add_train(app, exit_code);
  add_plan(app, exit_code);
  add_config(app, exit_code);
  add_data(app, exit_code);
  add_replay(app, exit_code);
  try {
    app.parse(argc, argv);
    return exit_code;
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : static_cast<int>(ExitCode::usage);
  } catch (const Error& e) {
    log_error(e.what());
    if (!e.hint().empty()) std::fprintf(stderr, "  hint: %s\n", e.hint().c_str());
    return static_cast<int>(e.code());
  } catch (const std::exception& e) {
    log_error(e.what());
    return static_cast<int>(ExitCode::failure);
  }
}

}  // namespace kiln::cli
