#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>

#include "src/cli/cli.h"
#include "src/cli/model_arguments.h"
#include "src/core/error.h"
#include "src/core/file.h"
#include "src/train/generate_text.h"
#include "src/train/stop.h"

namespace kiln::cli {
namespace {

std::string read_standard_input() {
  std::string text;
  char piece[4096];
  while (const size_t n = std::fread(piece, 1, sizeof piece, stdin)) text.append(piece, n);
  return text;
}

// False when the reader has gone away, which is no error: it has seen enough.
bool write_out(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0)
    return true;
  if (errno == EPIPE) return false;
  throw lost_output(std::strerror(errno));
}

}  // namespace

void add_generate(CLI::App& app, int&) {
  struct Arguments {
    train::GenerationRequest request;
    std::string prompt_file;
    bool no_prompt = false;
  };
  auto arguments = std::make_shared<Arguments>();
  auto& request = arguments->request;
  auto& sampling = request.sampling;
  CLI::App* command = app.add_subcommand("generate", "Write text with a trained model");
  add_model(*command, request.model, request.tokenizer);
  auto* prompt =
      command->add_option("--prompt", request.prompt, "Text to go on from; without it, a new document")
          ->type_name("TEXT");
  command->add_option("--prompt-file", arguments->prompt_file, "The same, from a file; - is standard input")
      ->type_name("FILE")
      ->excludes(prompt);
  command->add_option("--tokens", request.tokens, "To write, at most, in each sample")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  command
      ->add_option("--temperature", sampling.temperature,
                   "Below 1: likelier tokens; 0: always the likeliest one; 100 at most")
      ->capture_default_str();
  command->add_option("--top-k", sampling.top_k, "Draw among the K likeliest tokens; 0: all")
      ->capture_default_str();
  command
      ->add_option("--top-p", sampling.top_p,
                   "Draw among the fewest tokens whose probabilities sum to P; 1: all")
      ->capture_default_str();
  command->add_option("--seed", request.seed, "The same seed, the same text")
      ->check(CLI::Range(int64_t{0}, std::numeric_limits<int64_t>::max()))
      ->capture_default_str();
  command->add_option("--samples", request.samples, "Texts to write, one after the other")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  command->add_flag("--ignore-end", request.ignore_end, "Go on after end-of-text");
  command->add_flag("--no-prompt", arguments->no_prompt, "Write only what the model adds");
  command->footer(
      "The text goes to standard output as it comes, notes and the speed to standard error. A token costs "
      "one\n"
      "position's work and a look at the keys and values of those before it. When train.sequence tokens are "
      "full, the\n"
      "model forgets the older half of them, reads the other half anew, and goes on.\n"
      "Examples:\n"
      "  kiln generate runs/gpt2-mini-adamw --prompt 'Once upon a time' --tokens 200\n"
      "  kiln generate runs/gpt2-mini-adamw --prompt-file question.txt --temperature 0\n"
      "  echo -n 'The sea' | kiln generate runs/gpt2-mini-adamw --prompt-file - --top-p 0.9 --samples 3 "
      "--seed 7");
  command->callback([arguments] {
    auto& a = *arguments;
    train::ignore_closed_output();
    if (!a.prompt_file.empty()) {
      a.request.prompt = a.prompt_file == "-" ? read_standard_input() : read_file(a.prompt_file);
    }
    a.request.print_prompt = !a.no_prompt;
    train::generate_text(a.request, &write_out);
  });
}

}  // namespace kiln::cli
