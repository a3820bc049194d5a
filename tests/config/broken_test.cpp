// Broken configs, each with the whole message and hint that a person gets to see.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "models/families/list.h"
#include "src/config/load.h"
#include "src/config/schema.h"
#include "src/config/text.h"
#include "src/core/error.h"
#include "tests/config/valid.h"

namespace kiln::config {
namespace {

// The hint that explains a key.
std::string about(const char* name) {
  const Key& key = *find_key(name);
  return key.sentence + " Default: " + default_text(key) + ".";
}

// The same for a number whose type is wrong, with its range.
std::string with_range(const char* name) {
  const Key& key = *find_key(name);
  return about(name) + " Range: " + range_text(key, key.leaf()) + ".";
}

struct Broken {
  const char* name;
  std::string text;
  std::string message, hint;
  std::vector<std::string> overrides = {};
};

void PrintTo(const Broken& broken, std::ostream* out) {
  *out << broken.name;
}

class BrokenConfig : public ::testing::TestWithParam<Broken> {};

TEST_P(BrokenConfig, IsRefused) {
  const Broken& broken = GetParam();
  try {
    parse(broken.text, "configs/x.json", broken.overrides);
    FAIL() << "accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.what(), broken.message);
    EXPECT_EQ(e.hint(), broken.hint);
    EXPECT_EQ(e.code(), ExitCode::usage);
  }
}

std::string name_of_case(const ::testing::TestParamInfo<Broken>& info) {
  return info.param.name;
}

// Names its optimizer, as presets do.
const std::string kValidMuon = R"({
  "model": { "family": "gpt2", "layers": 2, "width": 64, "heads": 4, "vocab": 257, "context": 32 },
  "data": { "train": "train_*.bin", "validation": "validation.bin" },
  "train": { "steps": 100, "micro_batch": 4 },
  "optimizer": { "b1": 0.9, "lr": 0.001, "name": "muon" }
})";

// What is not JSON.
const std::vector<Broken> kSyntax = {
    {"empty_file", "", "configs/x.json:1:1: there is nothing here", "a config starts with { and ends with }"},
    {"only_spaces", " \n\t\n  ", "configs/x.json:3:3: there is nothing here",
     "a config starts with { and ends with }"},
    {"only_a_byte_order_mark", "\xef\xbb\xbf", "configs/x.json:1:1: there is nothing here",
     "a config starts with { and ends with }"},
    {"utf16", std::string("\xff\xfe{\0}\0", 6), "configs/x.json:1:1: this is UTF-16, not UTF-8",
     "save the file as UTF-8"},
    {"top_level_array", "\n [1, 2]",
     "configs/x.json:2:2: expected an object: a config starts with { and ends with }",
     "sections are keys of that object: { \"model\": { ... }, \"train\": { ... } }"},
    {"top_level_text", "\"model\"",
     "configs/x.json:1:1: expected an object: a config starts with { and ends with }",
     "sections are keys of that object: { \"model\": { ... }, \"train\": { ... } }"},
    {"two_objects", "{}\n{}", "configs/x.json:2:1: expected nothing more, found '{'",
     "a config is one object: { ... }"},
    {"trailing_comma", "{\n  \"train\": {\n    \"steps\": 10,\n  }\n}",
     "configs/x.json:3:16: expected another entry after ',', found '}'",
     "remove the comma after the last entry"},
    {"trailing_comma_in_array", "{ \"notes\": [1, 2, ] }",
     "configs/x.json:1:17: expected another entry after ',', found ']'",
     "remove the comma after the last entry"},
    {"missing_comma", "{\n  \"train\": { \"steps\": 10\n    \"clip\": 1 }\n}",
     "configs/x.json:3:5: expected ',' or '}', found '\"'", "put a comma between entries"},
    {"two_commas", R"({ "train": { "steps": 10,, "clip": 1 } })",
     "configs/x.json:1:26: expected a key in double quotes, found ','", "remove the second comma"},
    {"missing_colon", R"({ "train" { "steps": 10 } })",
     "configs/x.json:1:11: expected ':' after the key \"train\", found '{'", "write \"key\": value"},
    {"missing_value", R"({ "train": { "steps": } })", "configs/x.json:1:23: expected a value, found '}'",
     "a value is missing before it"},
    {"unclosed_object", "{\n  \"train\": {\n    \"steps\": 10\n",
     "configs/x.json:4:1: expected ',' or '}', found the end of the text",
     "the '{' of line 2, column 12 is not closed"},
    {"crossed_brackets", R"({ "notes": [1, 2} })", "configs/x.json:1:17: expected ',' or ']', found '}'",
     "brackets cross: the '[' of line 1, column 12 is not closed"},
    {"unquoted_key", "{\n  train: { \"steps\": 10 }\n}",
     "configs/x.json:2:3: expected a key in double quotes, found train",
     "a key stands in double quotes: \"key\": value"},
    {"single_quotes", R"({ "optimizer": { "name": 'adamw' } })",
     "configs/x.json:1:26: expected a value, found a single quote", "text stands in double quotes"},
    {"line_comment", "{\n  // the model\n  \"model\": {}\n}", "configs/x.json:2:3: JSON has no comments",
     "put remarks under \"notes\""},
    {"hash_comment", "{\n  \"train\": { \"steps\": 10 } # short\n}",
     "configs/x.json:2:28: JSON has no comments", "put remarks under \"notes\""},
    {"nan", R"({ "optimizer": { "lr": NaN } })", "configs/x.json:1:24: expected a value, found NaN",
     "JSON has no NaN and no infinity"},
    {"minus_infinity", R"({ "optimizer": { "lr": -Infinity } })",
     "configs/x.json:1:25: expected a digit after '-', found Infinity", "numbers look like -12, 0.5 or 6e-4"},
    {"python_constant", R"({ "notes": None })", "configs/x.json:1:12: expected a value, found None",
     "JSON writes true, false and null"},
    {"number_without_leading_digit", R"({ "optimizer": { "lr": .001 } })",
     "configs/x.json:1:24: expected a value, found '.'", "a number starts with a digit or with '-': 0.5"},
    {"number_with_leading_zero", R"({ "train": { "steps": 0100 } })",
     "configs/x.json:1:23: a number may not start with 0", "remove the leading zeros"},
    {"number_without_fraction", R"({ "train": { "clip": 1. } })",
     "configs/x.json:1:24: expected a digit after the point, found ' '",
     "numbers look like -12, 0.5 or 6e-4"},
    {"number_with_separators", R"({ "train": { "steps": 10_000 } })",
     "configs/x.json:1:23: this is not a number: \"10_000\"",
     "numbers look like -12, 0.5 or 6e-4, without separators and units"},
    {"huge_number", R"({ "optimizer": { "lr": 1e999 } })",
     "configs/x.json:1:24: this number does not fit a 64-bit float",
     "the largest is 1.8e+308, the smallest 2.2e-308"},
    {"text_over_two_lines", "{ \"sampling\": { \"prompt\": \"Once\nupon\" } }",
     "configs/x.json:1:27: this text is not closed before the end of its line",
     "end it with \"; a line break in it is \\n"},
    {"backslashes_in_a_path", R"({ "data": { "train": "C:\data\train.bin" } })",
     "configs/x.json:1:25: expected one of \" \\ / b f n r t u after '\\', found 'd'",
     "write \\\\ for a backslash"},
    {"tab_in_text", "{ \"notes\": \"a\tb\" }",
     "configs/x.json:1:14: text may not hold the control character 0x09", "write \\t for a tab"},
    {"half_a_surrogate_pair", R"({ "notes": "\ud83d!" })",
     "configs/x.json:1:13: \\ud83d is half of a surrogate pair",
     "write the character itself, in UTF-8, or both halves"},
    {"latin1", "{ \"notes\": \"caf\xe9\" }", "configs/x.json:1:16: the byte 0xe9 is not UTF-8",
     "save the file as UTF-8"},
    {"column_counts_characters", "{ \"notes\": \"caf\xc3\xa9\", }",
     "configs/x.json:1:18: expected another entry after ',', found '}'",
     "remove the comma after the last entry"},
    {"zero_byte", std::string("{}\0{}", 5), "configs/x.json:1:3: expected nothing more, found the byte 0x00",
     "a config is one object: { ... }"},
    {"deep_nesting", std::string(100000, '['), "configs/x.json:1:65: nested deeper than 64 levels",
     "a config has sections with keys in them"},
    {"duplicate_key", "{\n  \"optimizer\": {\n    \"lr\": 0.001,\n    \"wd\": 0,\n    \"lr\": 0.002\n  }\n}",
     "configs/x.json:5:5: the key \"lr\" is given twice: first at line 3, column 5", "keep one of the two"},
    {"duplicate_key_in_disguise", R"({ "train": {}, "tr\u0061in": {} })",
     "configs/x.json:1:16: the key \"train\" is given twice: first at line 1, column 3",
     "keep one of the two"},
    {"too_large", std::string(2000000, ' '),
     "configs/x.json: this file has 2000000 bytes, a config at most 1048576", "is it another file?"},
};
INSTANTIATE_TEST_SUITE_P(Syntax, BrokenConfig, ::testing::ValuesIn(kSyntax), name_of_case);

// Keys that do not exist.
const std::vector<Broken> kUnknown = {
    {"misspelled_key", "{\n  \"optimizer\": { \"lrr\": 0.001 }\n}",
     "configs/x.json:2:18: unknown key \"lrr\" in \"optimizer\"", "did you mean \"optimizer.lr\"?"},
    {"swapped_letters", R"({ "model": { "witdh": 64 } })",
     "configs/x.json:1:14: unknown key \"witdh\" in \"model\"", "did you mean \"model.width\"?"},
    {"capital_letters", R"({ "Train": { "steps": 1 } })", "configs/x.json:1:3: unknown key \"Train\"",
     "did you mean \"train\"?"},
    {"misspelled_section", R"({ "optimiser": { "lr": 0.1 } })",
     "configs/x.json:1:3: unknown key \"optimiser\"", "did you mean \"optimizer\"?"},
    {"short_for_a_section", R"({ "val": { "every": 1 } })", "configs/x.json:1:3: unknown key \"val\"",
     "did you mean \"validation\"?"},
    {"key_at_the_top_level", R"({ "lr": 0.001 })", "configs/x.json:1:3: unknown key \"lr\"",
     "did you mean \"optimizer.lr\"?"},
    {"key_in_the_wrong_section", R"({ "train": { "lr": 0.001 } })",
     "configs/x.json:1:14: unknown key \"lr\" in \"train\"", "did you mean \"optimizer.lr\"?"},
    {"ambiguous_key", R"({ "tokens": 10 })", "configs/x.json:1:3: unknown key \"tokens\"",
     "did you mean \"train.tokens\", \"validation.tokens\" or \"sampling.tokens\"?"},
    {"dotted_key", R"({ "optimizer.lr": 0.001 })", "configs/x.json:1:3: unknown key \"optimizer.lr\"",
     "a key stands inside its section: \"optimizer\": { \"lr\": ... }"},
    {"name_in_another_program", R"({ "train": { "learning_rate": 0.001 } })",
     "configs/x.json:1:14: unknown key \"learning_rate\" in \"train\"", "did you mean \"optimizer.lr\"?"},
    {"name_of_another_idea", R"({ "train": { "min_lr": 1e-5, "steps": 1 } })",
     "configs/x.json:1:14: unknown key \"min_lr\" in \"train\"", "did you mean \"schedule.final\"?"},
    {"dashes", R"({ "train": { "micro-batch": 1 } })",
     "configs/x.json:1:14: unknown key \"micro-batch\" in \"train\"", "did you mean \"train.micro_batch\"?"},
    {"nothing_like_it", R"({ "checkpoint": { "colour": "red" } })",
     "configs/x.json:1:19: unknown key \"colour\" in \"checkpoint\"",
     "the keys of \"checkpoint\" are every, keep, keep_every"},
    {"no_such_section", R"({ "colour": "red" })", "configs/x.json:1:3: unknown key \"colour\"",
     "the sections are model, data, train, optimizer, schedule, validation, sampling, checkpoint, metrics, "
     "output, device"},
    {"extends_in_a_section", R"({ "model": { "extends": "base.json" } })",
     "configs/x.json:1:14: unknown key \"extends\" in \"model\"",
     "\"extends\" stands in a file, at its top level"},
    {"first_mistake_first", R"({ "train": { "zzzzzz": 1 }, "device": { "aaaaaa": 1 } })",
     "configs/x.json:1:14: unknown key \"zzzzzz\" in \"train\"",
     "the keys of \"train\" are steps, tokens, epochs, micro_batch, sequence, tokens_per_step, loss_rows, "
     "seed, clip, max_skipped, skip_loss_z, skip_norm_z, skip_window, overfit_one_batch, precision, "
     "recompute"},
};
INSTANTIATE_TEST_SUITE_P(Unknown, BrokenConfig, ::testing::ValuesIn(kUnknown), name_of_case);

// Values of the wrong type or out of range.
const std::vector<Broken> kValues = {
    {"section_is_a_number", R"({ "checkpoint": 3 })", "configs/x.json:1:17: checkpoint: expected an object",
     "\"checkpoint\": { ... } with keys of every, keep, keep_every"},
    {"notes_is_a_number", R"({ "notes": 3 })", "configs/x.json:1:12: notes: expected text or an object",
     "notes are ignored; they are there for people"},
    {"notes_of_a_section_is_an_array", R"({ "output": { "notes": [] } })",
     "configs/x.json:1:24: notes: expected text or an object",
     "notes are ignored; they are there for people"},
    {"number_in_quotes", R"({ "optimizer": { "lr": "6e-4" } })",
     "configs/x.json:1:24: optimizer.lr: expected a number, found text \"6e-4\"",
     "write the number without quotes: 6e-4; 0 <= lr <= 10"},
    {"text_for_a_number", R"({ "optimizer": { "lr": "high" } })",
     "configs/x.json:1:24: optimizer.lr: expected a number, found text \"high\"", with_range("optimizer.lr")},
    {"true_for_a_number", R"({ "train": { "clip": true } })",
     "configs/x.json:1:22: train.clip: expected a number, found true",
     "Gradients are scaled down to this global norm where they exceed it; 0: never. Default: 1. Range: 0 <= "
     "clip <= "
     "1000000."},
    {"null_for_a_number", R"({ "train": { "steps": null } })",
     "configs/x.json:1:23: train.steps: expected an integer, found null", with_range("train.steps")},
    {"array_for_a_number", R"({ "optimizer": { "b1": [0.9, 0.95] } })",
     "configs/x.json:1:24: optimizer.b1: expected a number, found an array", with_range("optimizer.b1")},
    {"fraction_for_an_integer", R"({ "train": { "steps": 1000.5 } })",
     "configs/x.json:1:23: train.steps: expected an integer, found 1000.5", with_range("train.steps")},
    {"number_for_text", R"({ "data": { "train": 5 } })",
     "configs/x.json:1:22: data.train: expected text, found 5",
     "Token shards to learn from: a path, with * and ? allowed in the file name."},
    {"object_for_text", R"({ "optimizer": { "name": { "adamw": 1 } } })",
     "configs/x.json:1:26: optimizer.name: expected text (adamw, muon, kl-shampoo or pro-kl-shampoo), found "
     "an object",
     about("optimizer.name")},
    {"empty_path", R"({ "data": { "train": "" } })", "configs/x.json:1:22: data.train: is empty",
     "Token shards to learn from: a path, with * and ? allowed in the file name."},
    {"control_character_in_a_path", R"({ "data": { "train": "C:\train.bin" } })",
     "configs/x.json:1:22: data.train: a path may not hold the control character 0x09",
     "write \\\\ for a backslash"},
    {"zero_layers", R"({ "model": { "layers": 0 } })",
     "configs/x.json:1:24: model.layers: 0 is outside of 1 <= layers <= 1000", "Transformer blocks."},
    {"negative_rate", R"({ "optimizer": { "lr": -0.001 } })",
     "configs/x.json:1:24: optimizer.lr: -0.001 is outside of 0 <= lr <= 10", about("optimizer.lr")},
    {"b2_of_one", R"({ "optimizer": { "b2": 1 } })",
     "configs/x.json:1:24: optimizer.b2: 1 is outside of 0 <= b2 < 1", about("optimizer.b2")},
    {"eps_of_zero", R"({ "optimizer": { "eps": 0.0 } })",
     "configs/x.json:1:25: optimizer.eps: 0 is outside of 0 < eps <= 1", about("optimizer.eps")},
    {"vocab_beyond_reason", R"({ "model": { "vocab": 2000000 } })",
     "configs/x.json:1:23: model.vocab: 2000000 is outside of 2 <= vocab <= 1048576",
     "Token ids that exist: 257 for bytes (256 and end-of-text), 50257 for GPT-2; a vocabulary of your own "
     "has as many as "
     "kiln data train-tokenizer was told."},
    {"seed_beyond_64_bits", R"({ "train": { "seed": 18446744073709551616 } })",
     "configs/x.json:1:22: train.seed: 1.8446744073709552e+19 is outside of 0 <= seed <= 9007199254740991",
     "Decides the initial weights, the order of the data and the samples. Default: 42."},
    {"negative_warmup", R"({ "schedule": { "final": 1e-5, "warmup": -1 } })",
     "configs/x.json:1:42: schedule.warmup: -1 is outside of 0 <= warmup <= 100000000",
     "Steps in which the learning rate rises from 0 to optimizer.lr. Default: 0."},
    {"misspelled_choice", R"({ "schedule": { "kind": "Cosin" } })",
     "configs/x.json:1:25: schedule.kind: expected cosine, linear, wsd or constant, found \"Cosin\"",
     "did you mean \"cosine\"?"},
    {"no_such_choice", R"({ "device": { "isa": "neon" } })",
     "configs/x.json:1:22: device.isa: expected auto, baseline, avx2 or avx512, found \"neon\"",
     "Instruction set of the CPU kernels; auto: the best one that the processor has. Default: auto."},
    {"bf16", R"({ "train": { "precision": "bf16" } })",
     "configs/x.json:1:27: train.precision: expected f32, found \"bf16\"",
     "this version computes in f32 only"},
    {"unknown_optimizer", R"({ "optimizer": { "name": "sgd" } })",
     "configs/x.json:1:26: optimizer.name: expected adamw, muon, kl-shampoo or pro-kl-shampoo, found \"sgd\"",
     about("optimizer.name")},
    {"unknown_family", R"({ "model": { "family": "mamba" } })",
     fmt::format("configs/x.json:1:24: model.family: expected {}, found \"mamba\"",
                 either(families::family_names())),
     find_key("model.family")->sentence},
    {"no_such_device", R"({ "device": { "kind": "metal" } })",
     "configs/x.json:1:23: device.kind: expected cpu or cuda, found \"metal\"", about("device.kind")},
};
INSTANTIATE_TEST_SUITE_P(Values, BrokenConfig, ::testing::ValuesIn(kValues), name_of_case);

// Keys that do not fit each other, and keys that are not there.
const std::vector<Broken> kRelations = {
    {"nothing_given", "{}",
     "configs/x.json: model.family, model.layers, model.width, model.heads, model.vocab, model.context, "
     "data.train, "
     "data.validation, train.steps are missing and have no default",
     "start from a preset: \"extends\": \"gpt2-mini/base.json\" (a path to it from this file)"},
    {"steps_not_given", R"({ "model": { "family": "gpt2", "layers": 2, "width": 64, "heads": 4, "vocab": 257,
       "context": 32 }, "data": { "train": "t.bin", "validation": "" } })",
     "configs/x.json: train.steps is missing and has no default",
     "start from a preset: \"extends\": \"gpt2-mini/base.json\" (a path to it from this file)"},
    {"epochs_and_steps",
     kValid,
     "--set train.epochs=2.5: train.epochs = 2.5 and train.steps = 100 both say how long the run is",
     "leave one of them out; --set train.steps=0 takes back what a preset says; train.steps stands at "
     "configs/x.json:4:23",
     {"train.epochs=2.5"}},
    {"epochs_and_tokens",
     kValid,
     "--set train.epochs=2: train.epochs = 2 and train.tokens = 1000 both say how long the run is",
     "leave one of them out; --set train.tokens=0 takes back what a preset says; train.tokens stands at "
     "--set train.tokens=1000",
     {"train.steps=0", "train.tokens=1000", "train.epochs=2"}},
    {"tokens_of_other_steps",
     kValid,
     "--set train.tokens=129: train.tokens = 129 are 2 steps of 128 tokens, but train.steps = 100",
     "leave one of them out; --set train.steps=0 takes back what a preset says; train.steps stands at "
     "configs/x.json:4:23",
     {"train.tokens=129"}},
    {"too_many_tokens",
     kValid,
     "--set train.tokens=100000000000000: train.tokens = 100000000000000 are 781250000000 steps, more than "
     "100000000",
     "raise train.tokens_per_step",
     {"train.steps=0", "train.tokens=100000000000000"}},
    {"warmup_of_few_tokens",
     kValid,
     "--set train.tokens=1000: schedule.warmup = 9 is more than train.steps = 8",
     "lower the warm-up, or train longer; schedule.warmup stands at --set schedule.warmup=9; train.steps "
     "stands at --set train.steps=0",
     {"schedule.warmup=9", "train.steps=0", "train.tokens=1000"}},
    {"optimizer_of_another_preset",
     kValidMuon,
     "--set optimizer.name=kl-shampoo: optimizer.name is \"kl-shampoo\" here, but optimizer.lr, optimizer.b1 "
     "were chosen "
     "for \"muon\" at configs/x.json:5:35",
     "start from a preset of kl-shampoo, for example configs/gpt2-mini/kl-shampoo.json, or from one that "
     "names no "
     "optimizer (configs/gpt2-mini/base.json)",
     {"optimizer.name=kl-shampoo"}},
    {"heads_that_keys_cannot_be_shared_by",
     kValid,
     "--set model.kv_heads=3: model.heads = 4 is not a multiple of model.kv_heads = 3",
     "for example model.kv_heads = 2 or 4; model.heads stands at configs/x.json:2:67",
     {"model.kv_heads=3"}},
    {"rotary_positions_of_gpt2",
     kValid,
     "--set model.rope_theta=5000: model.rope_theta has no effect on model.family = \"gpt2\"",
     "its positions are learned: leave it out; model.family stands at configs/x.json:2:24",
     {"model.rope_theta=5000"}},
    {"odd_heads_of_llama",
     kValid,
     "--set model.width=60: model.width / model.heads = 60 / 4 = 15 is odd, but rotary positions turn "
     "channels in pairs",
     "choose sizes that make it even; model.heads stands at configs/x.json:2:67",
     {"model.family=llama", "model.width=60"}},
    {"no_length",
     kValid,
     "--set train.steps=0: train.steps, train.tokens and train.epochs are all 0: nothing says how long the "
     "run is",
     "for example train.steps = 1000 or train.epochs = 1",
     {"train.steps=0"}},
    {"switch",
     kValid,
     "--set train.overfit_one_batch=yes: train.overfit_one_batch: expected on or off, found \"yes\"",
     about("train.overfit_one_batch"),
     {"train.overfit_one_batch=yes"}},
    {"heads", R"({
  "model": { "family": "gpt2", "layers": 2, "width": 64, "heads": 5, "vocab": 257, "context": 32 },
  "data": { "train": "train_*.bin", "validation": "validation.bin" },
  "train": { "steps": 100 }
})",
     "configs/x.json:2:67: model.width = 64 is not a multiple of model.heads = 5: 64 = 12 * 5 + 4",
     "for example model.heads = 4 or 8; model.width stands at configs/x.json:2:54"},
    {"more_heads_than_channels",
     kValid,
     "--set model.heads=128: model.width = 64 is not a multiple of model.heads = 128: 64 = 0 * 128 + 64",
     "for example model.heads = 64; model.width stands at configs/x.json:2:54",
     {"model.heads=128"}},
    {"tokens_per_step",
     kValid,
     "--set train.tokens_per_step=1000: train.tokens_per_step = 1000 is not a multiple of train.micro_batch "
     "* "
     "train.sequence = 4 * 32 = 128",
     "for example train.tokens_per_step = 896 or 1024; train.micro_batch stands at configs/x.json:4:43; "
     "model.context stands at configs/x.json:2:95",
     {"train.tokens_per_step=1000"}},
    {"tokens_per_step_too_few",
     kValid,
     "--set train.tokens_per_step=100: train.tokens_per_step = 100 is not a multiple of train.micro_batch * "
     "train.sequence = 4 * 32 = 128",
     "for example train.tokens_per_step = 128; train.micro_batch stands at configs/x.json:4:43; "
     "model.context stands at configs/x.json:2:95",
     {"train.tokens_per_step=100"}},
    {"last_change_is_named",
     kValid,
     "--set train.micro_batch=3: train.tokens_per_step = 256 is not a multiple of train.micro_batch * "
     "train.sequence = "
     "3 * 32 = 96",
     "for example train.tokens_per_step = 192 or 288; train.tokens_per_step stands at --set "
     "train.tokens_per_step=256; model.context stands at configs/x.json:2:95",
     {"train.tokens_per_step=256", "train.micro_batch=3"}},
    {"sequence_beyond_context",
     kValid,
     "--set train.sequence=64: train.sequence = 64 is more than model.context = 32",
     "shorten the sequence, or give the model more positions; model.context stands at configs/x.json:2:95",
     {"train.sequence=64"}},
    {"micro_batch_beyond_reason",
     kValid,
     "--set model.context=1048576: train.micro_batch * train.sequence = 65536 * 1048576 = 68719476736 is "
     "more than "
     "67108864 tokens at a time",
     "lower train.micro_batch; gradients are accumulated up to train.tokens_per_step; train.micro_batch "
     "stands at --set train.micro_batch=65536",
     {"train.micro_batch=65536", "model.context=1048576"}},
    {"warmup_beyond_the_run",
     kValid,
     "--set schedule.warmup=101: schedule.warmup = 101 is more than train.steps = 100",
     "lower the warm-up, or train longer; train.steps stands at configs/x.json:4:23",
     {"schedule.warmup=101"}},
    {"wsd_without_room",
     kValid,
     "--set schedule.kind=wsd: schedule.warmup = 90 and schedule.decay_fraction = 0.2 of train.steps = 100 "
     "overlap: 90 + "
     "20 = 110 steps",
     "lower one of the two, or train longer; schedule.warmup stands at --set schedule.warmup=90; train.steps "
     "stands at configs/x.json:4:23",
     {"schedule.warmup=90", "schedule.kind=wsd"}},
    {"top_k_beyond_the_vocabulary",
     kValid,
     "--set sampling.top_k=300: sampling.top_k = 300 is more than model.vocab = 257",
     "0 draws from all tokens; model.vocab stands at configs/x.json:2:79",
     {"sampling.top_k=300"}},
    {"vocabulary_without_end_of_text",
     kValid,
     "--set model.vocab=256: model.vocab = 256 is less than the 257 tokens of data.tokenizer = \"bytes\"",
     "set model.vocab to 257",
     {"model.vocab=256"}},
    {"vocabulary_of_another_tokenizer",
     kValid,
     "--set data.tokenizer=gpt2: model.vocab = 257 is less than the 50257 tokens of data.tokenizer = "
     "\"gpt2\"",
     "set model.vocab to 50257; model.vocab stands at configs/x.json:2:79",
     {"data.tokenizer=gpt2"}},
    {"validation_of_less_than_a_sequence",
     kValid,
     "--set validation.tokens=31: validation.tokens = 31 is less than one train.sequence = 32",
     "validation reads whole sequences; model.context stands at configs/x.json:2:95",
     {"validation.tokens=31"}},
    {"prompt_for_gpt2_tokens",
     kValid,
     "--set sampling.prompt=Once: sampling.prompt is text, which cannot be turned into tokens of "
     "data.tokenizer = \"gpt2\" "
     "without GPT-2's files",
     "give data.tokenizer the path of GPT-2's vocab.json or tokenizer.json, or leave the prompt empty; "
     "data.tokenizer stands at --set data.tokenizer=gpt2",
     {"data.tokenizer=gpt2", "model.vocab=50257", "sampling.prompt=Once"}},
};
INSTANTIATE_TEST_SUITE_P(Relations, BrokenConfig, ::testing::ValuesIn(kRelations), name_of_case);

// Overrides on the command line.
const std::vector<Broken> kOverrides = {
    {"no_equals_sign",
     kValid,
     "--set optimizer.lr: expected KEY=VALUE",
     "for example --set optimizer.lr=0.002",
     {"optimizer.lr"}},
    {"key_of_another_optimizer",
     kValid,
     "--set optimizer.rank=64: optimizer.rank has no effect on optimizer.name = \"muon\"",
     "it is for pro-kl-shampoo: leave it out; optimizer.name stands at --set optimizer.name=muon",
     {"optimizer.name=muon", "optimizer.rank=64"}},
    {"constant_eigenvalues_without_eigenvalues",
     kValid,
     "--set optimizer.init=constant: optimizer.init = \"constant\" sets eigenvalues, of which optimizer.root "
     "= "
     "\"newton_schulz\" keeps none",
     "use optimizer.root = \"eigenbasis\", or optimizer.init = \"gradient\"; optimizer.root stands at --set "
     "optimizer.root=newton_schulz",
     {"optimizer.name=kl-shampoo", "optimizer.root=newton_schulz", "optimizer.init=constant"}},
    {"scale_of_an_isotropic_complement",
     kValid,
     "--set optimizer.complement=isotropic: optimizer.complement_scale = \"graft\" scales an orthogonalised "
     "complement, but optimizer.complement = \"isotropic\" is not orthogonalised",
     "leave optimizer.complement_scale out; optimizer.complement_scale stands at --set "
     "optimizer.complement_scale=graft",
     {"optimizer.name=pro-kl-shampoo", "optimizer.complement_scale=graft", "optimizer.complement=isotropic"}},
    {"factor_without_fixed_scale",
     kValid,
     "--set optimizer.complement_factor=0.3: optimizer.complement_factor has no effect with "
     "optimizer.complement_scale = \"matched\"",
     "set optimizer.complement_scale to \"fixed\"",
     {"optimizer.name=pro-kl-shampoo", "optimizer.complement_factor=0.3"}},
    {"no_key", kValid, "--set =3: expected KEY=VALUE", "for example --set optimizer.lr=0.002", {"=3"}},
    {"misspelled",
     kValid,
     "--set optimizer.lrr=1: unknown key \"optimizer.lrr\"",
     "did you mean \"optimizer.lr\"?",
     {"optimizer.lrr=1"}},
    {"without_section", kValid, "--set lr=1: unknown key \"lr\"", "did you mean \"optimizer.lr\"?", {"lr=1"}},
    {"misspelled_section",
     kValid,
     "--set optim.lr=1: unknown key \"optim.lr\"",
     "did you mean \"optimizer.lr\"?",
     {"optim.lr=1"}},
    {"whole_section",
     kValid,
     "--set checkpoint={}: \"checkpoint\" is a section",
     "set one of its keys: checkpoint.every, checkpoint.keep or checkpoint.keep_every",
     {"checkpoint={}"}},
    {"extends",
     kValid,
     "--set extends=a.json: unknown key \"extends\"",
     "\"extends\" stands in a file, at its top level",
     {"extends=a.json"}},
    {"text",
     kValid,
     "--set optimizer.lr=high: optimizer.lr: expected a number, found text \"high\"",
     with_range("optimizer.lr"),
     {"optimizer.lr=high"}},
    {"nothing",
     kValid,
     "--set optimizer.lr=: optimizer.lr: expected a number, found text \"\"",
     with_range("optimizer.lr"),
     {"optimizer.lr="}},
    {"two_points",
     kValid,
     "--set optimizer.lr=1.5.3: optimizer.lr: this is not a number: \"1.5.3\"",
     "numbers look like -12, 0.5 or 6e-4",
     {"optimizer.lr=1.5.3"}},
    {"huge",
     kValid,
     "--set optimizer.lr=1e999: optimizer.lr: this number does not fit a 64-bit float",
     "numbers look like -12, 0.5 or 6e-4",
     {"optimizer.lr=1e999"}},
    {"quoted_number",
     kValid,
     "--set train.steps=\"10\": train.steps: expected an integer, found text \"10\"",
     "write the number without quotes: 10; 0 <= steps <= 100000000",
     {"train.steps=\"10\""}},
    {"out_of_range",
     kValid,
     "--set train.clip=-1: train.clip: -1 is outside of 0 <= clip <= 1000000",
     "Gradients are scaled down to this global norm where they exceed it; 0: never. Default: 1.",
     {"train.clip=-1"}},
    {"no_choice",
     kValid,
     "--set device.arena=slap: device.arena: expected slab or discrete, found \"slap\"",
     "did you mean \"slab\"?",
     {"device.arena=slap"}},
    {"empty_choice",
     kValid,
     "--set device.arena=: device.arena: expected slab or discrete, found \"\"",
     "One allocation for all tensors, or one for each, so that sanitizers see an overrun. Default: slab.",
     {"device.arena="}},
    {"latin1",
     kValid,
     "--set \"sampling.prompt=caf\xef\xbf\xbd\": sampling.prompt: the value is not UTF-8",
     "Text that a sample continues; empty: a new document.",
     {"sampling.prompt=caf\xe9"}},
    {"unprintable",
     kValid,
     "--set \"sampling.\\u0007=1\": unknown key \"sampling.\\u0007\"",
     "the keys of \"sampling\" are every, tokens, prompt, temperature, top_k",
     {"sampling.\a=1"}},
};
INSTANTIATE_TEST_SUITE_P(Overrides, BrokenConfig, ::testing::ValuesIn(kOverrides), name_of_case);

}  // namespace
}  // namespace kiln::config
