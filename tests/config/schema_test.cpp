// The schema is the only list of keys: each of them can be set, is explained, and keeps its range.
#include "src/config/schema.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <tuple>

#include "src/config/assign.h"
#include "src/config/load.h"
#include "src/core/error.h"
#include "tests/config/valid.h"

namespace kiln::config {
namespace {

using nlohmann::json;

// Only type, range and choices of one value; no relations.
Config assigned(const Key& key, const json& value) {
  Assignment assignment;
  assignment.assign(key, value, "here");
  return assignment.config;
}

json value_of(const Key& key, Config config) {
  return std::visit([](const auto* place) { return json(*place); }, key.slot(config));
}

TEST(Schema, EveryKeyIsDocumented) {
  std::set<std::string> names;
  for (const Key& key : schema()) {
    EXPECT_TRUE(names.insert(key.name).second) << key.name << " is there twice";
    EXPECT_EQ(std::count(key.name.begin(), key.name.end(), '.'), 1) << key.name;
    EXPECT_FALSE(key.unit.empty()) << key.name;
    EXPECT_TRUE(key.sentence.ends_with(".")) << key.name;
    EXPECT_GT(key.sentence.size(), 10u) << key.name;
    if (key.is_text()) {
      EXPECT_TRUE(key.is_required() || std::holds_alternative<std::string>(key.fallback)) << key.name;
    } else {
      EXPECT_LT(key.range.min, key.range.max) << key.name;
      EXPECT_TRUE(key.choices.empty()) << key.name;
      EXPECT_TRUE(key.is_required() || std::holds_alternative<int64_t>(key.fallback) == key.is_integer())
          << key.name;
    }
  }
}

// Two keys that wrote to one place, or a place without a key, would go unnoticed otherwise.
TEST(Schema, EveryKeyHasItsOwnPlace) {
  Config config;
  std::set<const void*> places;
  size_t bytes = 0;
  for (const Key& key : schema()) {
    std::visit(
        [&](auto* place) {
          EXPECT_TRUE(places.insert(place).second) << key.name;
          EXPECT_GE(static_cast<void*>(place), static_cast<void*>(&config));
          EXPECT_LT(static_cast<void*>(place), static_cast<void*>(&config + 1));
          bytes += sizeof(*place);
        },
        key.slot(config));
  }
  EXPECT_EQ(bytes, sizeof(Config)) << "a member of Config has no key";
}

TEST(Schema, SectionsStandTogether) {
  const std::set<std::string> distinct(sections().begin(), sections().end());
  EXPECT_EQ(distinct.size(), sections().size());
}

TEST(Schema, DefaultsAreInRange) {
  const Config config = defaults();
  for (const Key& key : schema()) {
    if (key.is_required()) continue;
    const json value = value_of(key, config);
    EXPECT_EQ(value_of(key, assigned(key, value)), value) << key.name;
  }
}

TEST(Schema, NumbersKeepTheirRange) {
  for (const Key& key : schema()) {
    if (key.is_text()) continue;
    const Range& r = key.range;
    const double infinity = std::numeric_limits<double>::infinity();
    double too_low = key.is_integer() ? r.min - 1 : std::nextafter(r.min, -infinity);
    double too_high = key.is_integer() ? r.max + 1 : std::nextafter(r.max, infinity);
    if (r.min_open) too_low = r.min;
    if (r.max_open) too_high = r.max;
    EXPECT_THROW(assigned(key, too_low), Error) << key.name << " " << too_low;
    EXPECT_THROW(assigned(key, too_high), Error) << key.name << " " << too_high;
    EXPECT_THROW(assigned(key, -1e300), Error) << key.name;
    EXPECT_THROW(assigned(key, 1e300), Error) << key.name;
    if (!r.min_open) {
      EXPECT_EQ(value_of(key, assigned(key, r.min)), r.min) << key.name;
    }
    if (!r.max_open) {
      EXPECT_EQ(value_of(key, assigned(key, r.max)), r.max) << key.name;
    }
    if (key.is_integer()) {
      EXPECT_LE(std::abs(r.max), 9007199254740991.0) << key.name << ": not exact as a double";
      EXPECT_THROW(assigned(key, r.min + 0.5), Error) << key.name;
      EXPECT_THROW(assigned(key, std::numeric_limits<uint64_t>::max()), Error) << key.name;
      EXPECT_THROW(assigned(key, std::numeric_limits<int64_t>::min()), Error) << key.name;
    }
  }
}

TEST(Schema, WrongTypesAreRefused) {
  for (const Key& key : schema()) {
    for (const char* value : {"null", "[]", "{}", "[1]"}) {
      EXPECT_THROW(assigned(key, json::parse(value)), Error) << key.name << " " << value;
    }
    if (!key.is_switch()) {
      EXPECT_THROW(assigned(key, json(true)), Error) << key.name;
    }
    EXPECT_THROW(assigned(key, key.is_text() ? json(1) : json("1")), Error) << key.name;
  }
}

TEST(Schema, EveryKeyCanBeSet) {
  // Numbers get their largest value, or what the relations allow.
  const std::map<std::string, std::string> values = {
      {"model.width", "128"},           {"model.heads", "8"},          {"model.vocab", "300"},
      {"model.context", "64"},          {"train.sequence", "16"},      {"train.micro_batch", "2"},
      {"train.tokens_per_step", "256"}, {"schedule.warmup", "50"},     {"sampling.top_k", "40"},
      {"validation.tokens", "1000"},    {"optimizer.b1", "0.5"},       {"optimizer.b2", "0.5"},
      {"optimizer.adamw_b1", "0.5"},    {"optimizer.adamw_b2", "0.5"}, {"train.tokens", "12800"},
      {"model.kv_heads", "2"},
  };
  for (const Key& key : schema()) {
    std::string value = key.is_text() ? "elsewhere" : number_text(key.range.max);
    if (!key.choices.empty()) value = key.choices.back();
    if (const auto other = values.find(key.name); other != values.end()) value = other->second;
    std::vector<std::string> overrides = {key.name + "=" + value};
    if (!key.only_for.empty()) {
      overrides.push_back("optimizer.name=" + key.only_for.substr(key.only_for.rfind(' ') + 1));
    }
    if (key.name == "model.rope_theta") overrides.push_back("model.family=llama");
    if (key.name == "train.epochs") overrides.push_back("train.steps=0");
    if (key.name == "optimizer.complement_factor") overrides.push_back("optimizer.complement_scale=fixed");
    const Config config = parse(kValid, "x.json", overrides);
    EXPECT_EQ(value_of(key, config), key.is_text() ? json(value) : json::parse(value)) << key.name;
  }
}

TEST(Schema, DefaultsOfTheOptimizers) {
  const auto optimizer = [](const char* name) {
    std::string text = kValid;
    text.replace(text.find("\"lr\": 0.001"), 11, std::string("\"name\": \"") + name + "\"");
    return parse(text, "x.json").optimizer;
  };
  const Optimizer adamw = optimizer("adamw"), muon = optimizer("muon"), kl = optimizer("kl-shampoo"),
                  pro = optimizer("pro-kl-shampoo");
  EXPECT_EQ(std::tuple(adamw.lr, adamw.b1, adamw.b2, adamw.eps, adamw.wd),
            std::tuple(6e-4, 0.9, 0.95, 1e-8, 0.1));
  EXPECT_EQ(std::tuple(muon.lr, muon.b1, muon.wd, muon.adamw_lr, muon.ns, muon.scale),
            std::tuple(0.01, 0.95, 0.1, 1e-3, "jordan", "match_rms"));
  EXPECT_EQ(std::tuple(kl.lr, kl.b1, kl.b2, kl.eps, kl.refresh, kl.init, kl.root),
            std::tuple(0.005, 0.95, 0.95, 1e-8, 10, "gradient", "eigenbasis"));
  EXPECT_EQ(std::tuple(pro.lr, pro.b1, pro.b2, pro.refresh, pro.tracker_every, pro.rank, pro.ns),
            std::tuple(0.005, 0.95, 0.95, 10, 1, 128, "polar_express"));
  EXPECT_EQ(std::tuple(pro.orientation, pro.complement, pro.complement_scale, pro.tracker, pro.root),
            std::tuple("larger", "polar_left", "matched", "orthogonal", "eigenbasis"));
}

TEST(Schema, EveryChoiceIsAccepted) {
  for (const Key& key : schema()) {
    for (const std::string& choice : key.choices) EXPECT_EQ(value_of(key, assigned(key, choice)), choice);
    if (!key.choices.empty()) {
      EXPECT_THROW(assigned(key, key.choices.front() + "x"), Error);
    }
  }
}

TEST(Explain, NamesEveryKeyWithAllThatIsKnown) {
  const std::string all = explain();
  for (const Key& key : schema()) {
    const size_t begin = all.find("\n" + key.name + " ");
    ASSERT_NE(begin, std::string::npos) << key.name;
    std::string line = all.substr(begin + 1, all.find('\n', begin + 1) - begin - 1);
    EXPECT_NE(line.find(default_text(key)), std::string::npos) << line;
    EXPECT_NE(line.find(key.unit), std::string::npos) << line;
    EXPECT_TRUE(line.ends_with(range_text(key, key.leaf()))) << line;
    std::string words;  // of the wrapped text, on one line
    for (const char c : all.substr(begin + 1 + line.size(), 300)) {
      if (c != ' ' && c != '\n') words += c;
    }
    std::string sentence;
    for (const char c : key.sentence) {
      if (c != ' ') sentence += c;
    }
    EXPECT_TRUE(words.starts_with(sentence)) << key.name;
  }
}

TEST(Explain, TakesAPrefix) {
  EXPECT_EQ(explain("train.clip"),
            "key         default  unit           range\n"
            "train.clip  1        gradient norm  0 <= clip <= 1000000\n"
            "    Gradients are scaled down to this global norm where they exceed it; 0: never.\n");
  const std::string section = explain("schedule");
  EXPECT_NE(section.find("schedule.decay_fraction"), std::string::npos);
  EXPECT_EQ(section.find("\noptimizer."), std::string::npos);
}

TEST(Explain, TellsWhatIsNoKey) {
  const std::string all = explain();
  for (const char* words : {"\"extends\"", "\"notes\"", "--set optimizer.lr=0.002"}) {
    EXPECT_NE(all.find(words), std::string::npos) << words;
    EXPECT_EQ(explain("train").find(words), std::string::npos) << words;
  }
}

TEST(Explain, RefusesWhatIsNotThere) {
  try {
    explain("optimizer.learning_rate");
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "no key starts with \"optimizer.learning_rate\"");
    EXPECT_EQ(e.hint(), "did you mean \"optimizer.lr\"?");
  }
}

}  // namespace
}  // namespace kiln::config
