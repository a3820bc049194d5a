#include "src/config/relations.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <type_traits>
#include <variant>
#include <vector>

#include "models/families/list.h"
#include "src/config/text.h"

namespace kiln::config {
namespace {

// Bounds every product of sizes that plans and kernels compute, so that none overflows 64 bits.
constexpr int64_t kMostMicroBatchTokens = int64_t{1} << 26;

constexpr int64_t kByteVocab = 257, kGpt2Vocab = 50257;  // with end-of-text

double most_steps() {
  return find_key("train.steps")->range.max;
}

class Relations {
 public:
  Relations(Assignment& assignment, const std::string& name)
      : assignment_(assignment), config_(assignment.config), name_(name) {}

  void run_optimizer() { check_optimizer(); }

  void run() {
    check_required();
    check_model();
    check_batch();
    check_length();
    check_optimizer();
    if (config_.train.steps > 0) check_schedule(config_.train.steps);
    check_text();
    if (config_.output.dir.empty()) config_.output.dir = default_folder();
  }

  void check_schedule(int64_t steps) const {
    const Schedule& s = config_.schedule;
    if (s.warmup > steps) {
      broken({"schedule.warmup", "train.steps", "train.tokens"},
             fmt::format("schedule.warmup = {} is more than train.steps = {}", s.warmup, steps),
             "lower the warm-up, or train longer");
    }
    const auto decay = static_cast<int64_t>(std::ceil(s.decay_fraction * static_cast<double>(steps)));
    if (s.kind == "wsd" && s.warmup + decay > steps) {
      broken(
          {"schedule.decay_fraction", "schedule.warmup", "train.steps", "train.tokens", "schedule.kind"},
          fmt::format(
              "schedule.warmup = {} and schedule.decay_fraction = {} of train.steps = {} overlap: {} + {} = "
              "{} steps",
              s.warmup, number_text(s.decay_fraction), steps, s.warmup, decay, s.warmup + decay),
          "lower one of the two, or train longer");
    }
  }

 private:
  using Keys = std::initializer_list<std::string_view>;

  // A relation between `keys`, told at the one that was given last: that one broke it. The hint says where the others
  // stand.
  [[noreturn]] void broken(Keys keys, const std::string& message, const std::string& hint) const {
    refuse(assignment_.latest(keys, name_), message, hint + assignment_.others(keys));
  }

  void check_required() const {
    std::vector<std::string> missing;
    for (const Key& key : schema()) {
      const bool is_missing =
          key.name == "train.steps" ? has_no_length() : key.is_required() && !assignment_.was_given(key.name);
      if (is_missing) missing.push_back(key.name);
    }
    if (missing.empty()) return;
    if (missing.size() == 1 && has_no_length() && assignment_.was_given("train.steps")) {
      refuse(assignment_.latest({"train.steps"}, name_),
             "train.steps, train.tokens and train.epochs are all 0: nothing says how long the run is",
             "for example train.steps = 1000 or train.epochs = 1");
    }
    refuse(name_,
           fmt::format("{} {} missing and {} no default", fmt::join(missing, ", "),
                       missing.size() == 1 ? "is" : "are", missing.size() == 1 ? "has" : "have"),
           "start from a preset: \"extends\": \"gpt2-mini/base.json\" (a path to it from this file)");
  }

  bool has_no_length() const {
    const Train& t = config_.train;
    return t.steps == 0 && t.tokens == 0 && t.epochs == 0;
  }

  // One of train.steps, train.tokens and train.epochs decides how long the run is. A resolved config has the steps that
  // its train.tokens take, so both may be there if they agree.
  void check_length() {
    Train& t = config_.train;
    if (t.epochs > 0 && (t.steps > 0 || t.tokens > 0)) {
      const char* other = t.steps > 0 ? "train.steps" : "train.tokens";
      broken({"train.epochs", other},
             fmt::format("train.epochs = {} and {} = {} both say how long the run is", number_text(t.epochs),
                         other, t.steps > 0 ? t.steps : t.tokens),
             fmt::format("leave one of them out; --set {}=0 takes back what a preset says", other));
    }
    if (t.tokens == 0) return;
    const int64_t steps = (t.tokens + t.tokens_per_step - 1) / t.tokens_per_step;
    if (t.steps > 0 && t.steps != steps) {
      broken({"train.tokens", "train.steps"},
             fmt::format("train.tokens = {} are {} steps of {} tokens, but train.steps = {}", t.tokens, steps,
                         t.tokens_per_step, t.steps),
             "leave one of them out; --set train.steps=0 takes back what a preset says");
    }
    if (static_cast<double>(steps) > most_steps()) {
      broken({"train.tokens", "train.tokens_per_step"},
             fmt::format("train.tokens = {} are {} steps, more than {}", t.tokens, steps,
                         number_text(most_steps())),
             "raise train.tokens_per_step");
    }
    t.steps = steps;
  }

  void check_model() {
    Model& m = config_.model;
    const families::Family& family = families::family_named(m.family);
    if (m.ffn == 0) m.ffn = family.ffn(m.width);
    if (m.kv_heads == 0) m.kv_heads = m.heads;
    if (m.tied == "auto") m.tied = family.tied ? "on" : "off";
    if (m.norm_eps == 0) m.norm_eps = family.norm_eps;
    if (m.width % m.heads != 0) {
      broken({"model.width", "model.heads"},
             fmt::format("model.width = {} is not a multiple of model.heads = {}: {} = {} * {} + {}", m.width,
                         m.heads, m.width, m.width / m.heads, m.heads, m.width % m.heads),
             divisors("model.heads", m.width, m.heads));
    }
    if (m.heads % m.kv_heads != 0) {
      broken({"model.heads", "model.kv_heads"},
             fmt::format("model.heads = {} is not a multiple of model.kv_heads = {}", m.heads, m.kv_heads),
             divisors("model.kv_heads", m.heads, m.kv_heads));
    }
    if (family.rotary() && m.width / m.heads % 2 != 0) {
      broken(
          {"model.width", "model.heads"},
          fmt::format(
              "model.width / model.heads = {} / {} = {} is odd, but rotary positions turn channels in pairs",
              m.width, m.heads, m.width / m.heads),
          "choose sizes that make it even");
    }
    if (!family.rotary() && m.rope_theta != defaults().model.rope_theta) {
      broken({"model.rope_theta", "model.family"},
             fmt::format("model.rope_theta has no effect on model.family = \"{}\"", m.family),
             "its positions are learned: leave it out");
    }
    const std::string& tokenizer = config_.data.tokenizer;  // a file's is compared when it is opened
    const int64_t least = tokenizer == "bytes" ? kByteVocab : tokenizer == "gpt2" ? kGpt2Vocab : 0;
    if (m.vocab < least) {
      broken({"model.vocab", "data.tokenizer"},
             fmt::format("model.vocab = {} is less than the {} tokens of data.tokenizer = \"{}\"", m.vocab,
                         least, tokenizer),
             fmt::format("set model.vocab to {}", least));
    }
  }

  void check_batch() {
    Train& t = config_.train;
    const int64_t context = config_.model.context;
    if (t.sequence == 0) t.sequence = context;
    if (t.sequence > context) {
      broken({"train.sequence", "model.context"},
             fmt::format("train.sequence = {} is more than model.context = {}", t.sequence, context),
             "shorten the sequence, or give the model more positions");
    }
    const int64_t product = t.micro_batch * t.sequence;
    const std::string product_text =
        fmt::format("train.micro_batch * train.sequence = {} * {} = {}", t.micro_batch, t.sequence, product);
    if (product > kMostMicroBatchTokens) {
      broken({"train.micro_batch", "train.sequence", "model.context"},
             fmt::format("{} is more than {} tokens at a time", product_text, kMostMicroBatchTokens),
             "lower train.micro_batch; gradients are accumulated up to train.tokens_per_step");
    }
    if (t.tokens_per_step == 0) t.tokens_per_step = product;
    if (t.tokens_per_step % product != 0) {
      broken(
          {"train.tokens_per_step", "train.micro_batch", "train.sequence", "model.context"},
          fmt::format("train.tokens_per_step = {} is not a multiple of {}", t.tokens_per_step, product_text),
          neighbours("train.tokens_per_step", t.tokens_per_step, product));
    }
    const int64_t validation = config_.validation.tokens;
    if (!config_.data.validation.empty() && validation < t.sequence) {
      broken(
          {"validation.tokens", "train.sequence", "model.context"},
          fmt::format("validation.tokens = {} is less than one train.sequence = {}", validation, t.sequence),
          "validation reads whole sequences");
    }
  }

  // Defaults that depend on the optimizer, and keys that it does not read.
  void check_optimizer() {
    Optimizer& o = config_.optimizer;
    const bool muon = o.name == "muon", pro = o.name == "pro-kl-shampoo";
    if (o.name != "adamw") {
      if (!assignment_.was_given("optimizer.lr")) o.lr = muon ? 0.01 : 0.005;
      if (!assignment_.was_given("optimizer.b1")) o.b1 = 0.95;
    }
    if (o.ns == "auto" && (muon || pro)) o.ns = muon ? "jordan" : "polar_express";
    if (o.tracker_every == 0 && pro) o.tracker_every = o.tracker == "accumulate" ? o.refresh : 1;
    check_optimizer_is_meant();
    check_unused_keys();
    if (o.init == "constant" && o.root == "newton_schulz") {
      broken({"optimizer.init", "optimizer.root"},
             "optimizer.init = \"constant\" sets eigenvalues, of which optimizer.root = \"newton_schulz\" "
             "keeps none",
             "use optimizer.root = \"eigenbasis\", or optimizer.init = \"gradient\"");
    }
    if (o.complement == "isotropic" && o.complement_scale != "matched") {
      broken({"optimizer.complement_scale", "optimizer.complement"},
             fmt::format("optimizer.complement_scale = \"{}\" scales an orthogonalised complement, but "
                         "optimizer.complement = \"isotropic\" is not orthogonalised",
                         o.complement_scale),
             "leave optimizer.complement_scale out");
    }
    if (o.complement_scale != "fixed" && o.complement_factor != defaults().optimizer.complement_factor) {
      broken({"optimizer.complement_factor", "optimizer.complement_scale"},
             fmt::format("optimizer.complement_factor has no effect with optimizer.complement_scale = \"{}\"",
                         o.complement_scale),
             "set optimizer.complement_scale to \"fixed\"");
    }
  }

  // Values that an inherited file chose for one optimizer say nothing about another: neither a learning rate taken over
  // in silence nor a complaint about every key that the other does not read would help.
  void check_optimizer_is_meant() const {
    const std::string& name = config_.optimizer.name;
    std::vector<std::string> strangers;
    std::string chosen_for;
    for (const char* key : {"optimizer.lr", "optimizer.b1", "optimizer.b2", "optimizer.eps"}) {
      const std::string other = assignment_.chosen_for(key);
      if (other.empty() || other == name) continue;
      strangers.emplace_back(key);
      chosen_for = other;
    }
    if (strangers.empty()) return;
    const std::string preset = preset_beside(name == "pro-kl-shampoo" ? "pro-kl-shampoo-r32" : name),
                      base = preset_beside("base");
    refuse(assignment_.latest({"optimizer.name"}, name_),
           fmt::format("optimizer.name is \"{}\" here, but {} {} chosen for \"{}\" at {}", name,
                       fmt::join(strangers, ", "), strangers.size() == 1 ? "was" : "were", chosen_for,
                       assignment_.latest({strangers.front()}, name_)),
           fmt::format("start from a preset of {}, for example {}, or from one that names no optimizer ({})",
                       name, preset, base));
  }

  // The preset of that name in the folder of the config, where there is one.
  std::string preset_beside(const std::string& name) const {
    const std::filesystem::path beside = std::filesystem::path(name_).parent_path() / (name + ".json");
    std::error_code none;
    return std::filesystem::exists(beside, none) ? beside.string() : "configs/gpt2-mini/" + name + ".json";
  }

  // A value that changes nothing is a misunderstanding; defaults are accepted, since resolved configs name all keys.
  void check_unused_keys() const {
    const std::string& name = config_.optimizer.name;
    Config given = config_, usual = defaults();
    for (const Key& key : schema()) {
      if (key.only_for.empty() || (" " + key.only_for + " ").find(" " + name + " ") != std::string::npos)
        continue;
      const bool same = std::visit(
          [](const auto* a, const auto* b) {
            if constexpr (std::is_same_v<decltype(a), decltype(b)>) return *a == *b;
            return false;
          },
          key.slot(given), key.slot(usual));
      if (same) continue;
      broken({key.name, "optimizer.name"},
             fmt::format("{} has no effect on optimizer.name = \"{}\"", key.name, name),
             fmt::format("it is for {}: leave it out", commas(key.only_for)));
    }
  }

  void check_text() const {
    const Sampling& s = config_.sampling;
    if (s.top_k > config_.model.vocab) {
      broken({"sampling.top_k", "model.vocab"},
             fmt::format("sampling.top_k = {} is more than model.vocab = {}", s.top_k, config_.model.vocab),
             "0 draws from all tokens");
    }
    if (!s.prompt.empty() && config_.data.tokenizer == "gpt2") {
      broken(
          {"sampling.prompt", "data.tokenizer"},
          "sampling.prompt is text, which cannot be turned into tokens of data.tokenizer = \"gpt2\" without "
          "GPT-2's files",
          "give data.tokenizer the path of GPT-2's vocab.json or tokenizer.json, or leave the prompt empty");
    }
  }

  // The divisors of `whole` around x.
  static std::string divisors(const char* key, int64_t whole, int64_t x) {
    int64_t down = std::min(x, whole), up = std::min(x, whole);
    while (whole % down != 0) down--;
    while (whole % up != 0) up++;
    if (down == up) return fmt::format("for example {} = {}", key, down);
    return fmt::format("for example {} = {} or {}", key, down, up);
  }

  // The multiples of `unit` around x.
  static std::string neighbours(const char* key, int64_t x, int64_t unit) {
    const int64_t down = x / unit * unit;
    if (down == 0) return fmt::format("for example {} = {}", key, unit);
    return fmt::format("for example {} = {} or {}", key, down, down + unit);
  }

  // configs/gpt2-mini/adamw.json -> runs/gpt2-mini-adamw
  std::string default_folder() const {
    const std::filesystem::path path = std::filesystem::path(name_).lexically_normal();
    const std::string parent = path.parent_path().filename().string(), stem = path.stem().string();
    const bool has_name = !parent.empty() && parent != "." && parent != "..";
    std::string out = has_name ? parent + "-" + stem : stem;
    if (!is_utf8(out)) {  // it goes into JSON
      for (char& c : out) c = static_cast<unsigned char>(c) < 0x80 ? c : '_';
    }
    for (char& c : out) c = static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '_' : c;
    return "runs/" + (out.empty() ? "config" : out);
  }

  Assignment& assignment_;
  Config& config_;
  const std::string& name_;
};

}  // namespace

void resolve(Assignment& assignment, const std::string& name) {
  Relations(assignment, name).run();
}

int64_t steps_of(const Config& config, int64_t sequences) {
  const Train& t = config.train;
  if (t.steps > 0) return t.steps;
  const std::string name = "train.epochs";
  const double wanted = std::max(1.0, std::round(t.epochs * static_cast<double>(sequences)));
  const double steps =
      std::ceil(wanted / (static_cast<double>(t.tokens_per_step) / static_cast<double>(t.sequence)));
  if (steps > most_steps()) {
    refuse(name,
           fmt::format("{} of {} sequences are {} steps, more than {}", number_text(t.epochs), sequences,
                       number_text(steps), number_text(most_steps())),
           "lower train.epochs, or raise train.tokens_per_step");
  }
  Assignment assignment;
  assignment.config = config;
  Relations(assignment, name).check_schedule(static_cast<int64_t>(steps));
  return static_cast<int64_t>(steps);
}

void resolve_optimizer(Assignment& assignment, const std::string& name) {
  Relations(assignment, name).run_optimizer();
}

}  // namespace kiln::config
