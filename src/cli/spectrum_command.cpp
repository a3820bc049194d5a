#include <fmt/format.h>

#include <memory>

#include "src/cli/cli.h"
#include "src/cli/input_progress.h"
#include "src/train/spectrum.h"

namespace kiln::cli {

void add_spectrum(CLI::App& app, int&) {
  struct Arguments {
    std::string path;
    train::SpectrumOptions options;
    int64_t pictures = 1;
    bool json = false;
  };
  auto arguments = std::make_shared<Arguments>();
  train::SpectrumOptions& options = arguments->options;
  CLI::App* command = app.add_subcommand("spectrum", "Eigenvalues of the factors that KL-Shampoo learnt");
  command
      ->add_option("path", arguments->path,
                   "A run's folder, for all checkpoints it kept, or one of its checkpoints/")
      ->type_name("RUN|CHECKPOINT")
      ->required();
  command
      ->add_option("--rank", options.rank,
                   "Where the tail begins: after so many eigenvalues; else the run's metrics.tail_rank (128)")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  command
      ->add_option("--matrix", options.matrices, "Only matrices with this in their name: mlp.fc (repeatable)")
      ->type_name("NAME")
      ->allow_extra_args(false);
  command->add_option("--pictures", arguments->pictures, "Draw the spectra of so many matrices")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40))
      ->capture_default_str();
  command
      ->add_option("--set", options.overrides, "Override one key of the run's config: --set device.threads=1")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command->add_flag("--json", arguments->json, "One JSON object on one line, with every eigenvalue");
  command->footer(
      "Decomposes S_a and S_b of every matrix (LAPACK) in checkpoints of optimizer kl-shampoo, after "
      "comparing their\n"
      "checksum. Pro-KLShampoo keeps r directions of one factor and one eigenvalue for the rest: whether "
      "that costs\n"
      "much is what the gap and the price of the tail say, and \"flat r\" is the rank from which it costs "
      "little. A\n"
      "curve for each step is drawn; JSON has all numbers. For more steps, train with checkpoint.every and\n"
      "checkpoint.keep_every, or with metrics.every, which logs the gaps alone (metrics.tail_rank).\n"
      "Examples:\n"
      "  kiln spectrum runs/gpt2-mini-kl-shampoo --rank 32\n"
      "  kiln spectrum runs/gpt2-mini-kl-shampoo/checkpoints/step_00003600 --matrix h.3.mlp --pictures 2\n"
      "  kiln spectrum runs/gpt2-mini-kl-shampoo --json | jq '.checkpoints[-1].matrices[0].s_b.eigenvalues'");
  command->callback([arguments] {
    InputProgress line("decomposing");
    arguments->options.progress = [&](int64_t done, int64_t total, const std::string& what) {
      line.note(fmt::format("decomposing: {}, {} of {} factors", what, done, total));
    };
    const train::Spectra spectra = train::spectra_of(arguments->path, arguments->options);
    line.finish();
    fmt::print("{}",
               arguments->json ? train::json_of(spectra) : train::text_of(spectra, arguments->pictures));
  });
}

}  // namespace kiln::cli
