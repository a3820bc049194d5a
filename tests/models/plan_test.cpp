// The parameter table, the planned memory and the work of GPT-2, by formula.
#include <algorithm>

#include "kernels/table.h"
#include "tests/models/harness.h"

namespace kiln::models {
namespace {

ModelShape gpt2_124m() {
  return {.layers = 12,
          .width = 768,
          .heads = 12,
          .ffn = 3072,
          .vocab = 50257,
          .padded_vocab = 50304,
          .context = 1024,
          .norm_eps = 1e-5};
}
ModelShape gpt2_350m() {
  return {.layers = 24,
          .width = 1024,
          .heads = 16,
          .ffn = 4096,
          .vocab = 50257,
          .padded_vocab = 50304,
          .context = 1024,
          .norm_eps = 1e-5};
}

TEST(Gpt2Parameters, Counts) {
  EXPECT_EQ(create_transformer(families::gpt2::kFamily, gpt2_124m())->parameters().elements(),
            124'439'808 + 47 * 768);
  EXPECT_EQ(create_transformer(families::gpt2::kFamily, gpt2_350m())->parameters().elements(),
            354'823'168 + 47 * 1024);
}

TEST(Gpt2Parameters, Table) {
  const std::unique_ptr<Model> model = create_transformer(families::gpt2::kFamily, tiny_shape());
  std::string table;
  for (const Parameter& p : model->parameters().all()) {
    table += fmt::format("{} ({}) {}", p.name, to_string(p.shape), name_of(p.kind));
    for (const RowSplit& s : p.splits) table += fmt::format(" {}:{}+{}", s.name, s.first, s.rows);
    table += "\n";
  }
  std::string expected = "wte.weight (96 x 48) embedding\nwpe.weight (41 x 48) embedding\n";
  for (int l = 0; l < 3; l++) {
    expected += fmt::format(
        "h.{0}.ln1.weight (48) norm\nh.{0}.ln1.bias (48) bias\n"
        "h.{0}.attn.qkv.weight (144 x 48) matrix q:0+48 k:48+48 v:96+48\nh.{0}.attn.qkv.bias (144) bias\n"
        "h.{0}.attn.proj.weight (48 x 48) matrix\nh.{0}.attn.proj.bias (48) bias\n"
        "h.{0}.ln2.weight (48) norm\nh.{0}.ln2.bias (48) bias\n"
        "h.{0}.mlp.fc.weight (192 x 48) matrix\nh.{0}.mlp.fc.bias (192) bias\n"
        "h.{0}.mlp.proj.weight (48 x 192) matrix\nh.{0}.mlp.proj.bias (48) bias\n",
        l);
  }
  expected += "ln_f.weight (48) norm\nln_f.bias (48) bias\n";
  EXPECT_EQ(table, expected);
}

TEST(Gpt2Parameters, Refusals) {
  const auto refused = [](auto change) {
    ModelShape shape = tiny_shape();
    change(shape);
    try {
      create_transformer(families::gpt2::kFamily, shape);
    } catch (const Error& e) {
      return e.code() == ExitCode::usage && !e.hint().empty();
    }
    return false;
  };
  EXPECT_TRUE(refused([](ModelShape& s) { s.heads = 5; }));
  EXPECT_TRUE(refused([](ModelShape& s) { s.layers = 0; }));
  EXPECT_TRUE(refused([](ModelShape& s) { s.padded_vocab = 66; }));
  EXPECT_FALSE(refused([](ModelShape&) {}));

  const std::unique_ptr<Model> model = create_transformer(families::gpt2::kFamily, tiny_shape());
  const Device device = cpu_device(1);
  Plan plan;
  EXPECT_THROW(model->plan(plan, {.B = 1, .T = 42, .loss_rows = 1}, DType::f32, device),
               Error);  // context 41
  EXPECT_THROW(model->plan(plan, tiny_batch(), DType::bf16, device), Error);
  EXPECT_THROW(model->plan(plan, {.B = 1, .T = 1, .loss_rows = 0}, DType::f32, device), Error);
}

struct Shapes {
  ModelShape model;
  BatchShape batch;
};
// R is a multiple of 32, so that every buffer is a multiple of the alignment of 128 bytes.
std::vector<Shapes> shapes() {
  const ModelShape mini{.layers = 6,
                        .width = 384,
                        .heads = 6,
                        .ffn = 1536,
                        .vocab = 257,
                        .padded_vocab = 320,
                        .context = 256,
                        .norm_eps = 1e-5};
  ModelShape narrow = mini;
  narrow.ffn = 576;  // 2F = 3C
  return {{gpt2_124m(), {.B = 4, .T = 1024, .loss_rows = 256}},
          {gpt2_350m(), {.B = 1, .T = 1024, .loss_rows = 1024}},
          {mini, {.B = 8, .T = 256, .loss_rows = 512}},
          {narrow, {.B = 32, .T = 31, .loss_rows = 512}},
          {tiny_shape(), {.B = 8, .T = 36, .loss_rows = 1000}}};
}

size_t activation_bytes(const ModelShape& shape, const BatchShape& batch) {
  Plan plan;
  create_transformer(families::gpt2::kFamily, shape)->plan(plan, batch, DType::f32, cpu_device(1));
  return plan.layout().category_bytes[static_cast<size_t>(Category::activations)];
}

TEST(Gpt2Plan, TrainingMemoryIsTheDocumentedFormula) {
  for (const auto& [m, batch] : shapes()) {
    const int64_t C = m.width, F = m.ffn, R = batch.B * batch.T;
    const int64_t per_token_and_layer = (8 * C + 2 * F) * 4 + 4 * (m.heads + 4);
    const int64_t logits = std::min(batch.loss_rows, R) * m.padded_vocab * 4;
    EXPECT_EQ(activation_bytes(m, batch), m.layers * R * per_token_and_layer + R * (2 * C * 4 + 8) + logits)
        << m.layers << " layers of " << C;
  }
}

// LLaMA: W = C + 2 kv_heads HS for queries, keys and values, gate and up 2F and their product F, RMS norms without means;
// the angles of T positions. (Here backward's gradients fit where the feed-forward half was.)
TEST(LlamaPlan, TrainingMemoryIsTheDocumentedFormula) {
  for (const int64_t kv_heads : {1, 2, 6}) {
    for (const bool tied : {false, true}) {
      ModelShape m = tiny_llama(tied);
      m.kv_heads = kv_heads, m.ffn = 128, m.context = 64;
      const BatchShape batch{.B = 2, .T = 64, .loss_rows = 32};
      Plan plan;
      create_transformer(families::llama::kFamily, m)->plan(plan, batch, DType::f32, cpu_device(1));
      const int64_t C = m.width, F = m.ffn, HS = C / m.heads, W = C + 2 * kv_heads * HS,
                    R = batch.B * batch.T;
      const int64_t per_token_and_layer = (2 * C + 2 * C + W + C + 3 * F) * 4 + 2 * 4 + 4 * m.heads;
      const int64_t once = R * (2 * C * 4 + 4) + batch.loss_rows * m.padded_vocab * 4 + batch.T * HS * 4;
      EXPECT_EQ(plan.layout().category_bytes[static_cast<size_t>(Category::activations)],
                static_cast<size_t>(m.layers * R * per_token_and_layer + once))
          << kv_heads << tied;
    }
  }
}

TEST(LlamaPlan, TheCacheHasTheHeadsOfKeysAndValues) {
  const auto activation_bytes = [](const BatchShape& batch) {
    Plan plan;
    create_transformer(families::llama::kFamily, tiny_llama(false))
        ->plan(plan, batch, DType::f32, cpu_device(1));
    return plan.layout().category_bytes[static_cast<size_t>(Category::activations)];
  };
  const BatchShape without{.B = 1, .T = 32, .loss_rows = 1, .training = false};
  BatchShape with = without;
  with.cache = 32;
  EXPECT_EQ(activation_bytes(with), activation_bytes(without) + size_t{2} * 2 * 2 * 8 * 32 * sizeof(float));
}

// Forward only, layers share: what the fullest of the three kinds of tick needs.
TEST(Gpt2Plan, ForwardMemoryIsThatOfOneLayer) {
  for (auto [m, batch] : shapes()) {
    batch.training = false;
    const int64_t C = m.width, F = m.ffn, R = batch.B * batch.T;
    const int64_t attention = R * ((1 + 1 + 3 + 1 + 1) * C * 4 + 8 + 4 * m.heads);  // x, ln1, qkv, out, mid
    const int64_t feed_forward = R * ((1 + 1 + 1) * C * 4 + 2 * F * 4 + 8);  // mid, ln2, next; inner, gelu
    const int64_t head = R * (2 * C * 4 + 8) + std::min(batch.loss_rows, R) * m.padded_vocab * 4;
    EXPECT_EQ(activation_bytes(m, batch), std::max({attention, feed_forward, head}))
        << m.layers << " layers of " << C;
  }
}

TEST(Gpt2Plan, BackwardFormsArePlannedForTrainingOnly) {
  for (bool training : {false, true}) {
    Plan plan;
    BatchShape batch = tiny_batch();
    batch.training = training;
    const Device device = cpu_device(1);
    create_transformer(families::gpt2::kFamily, tiny_shape())->plan(plan, batch, DType::f32, device);
    size_t expected = 0;
    const auto add = [&](int64_t N, int64_t K, int64_t times) {
      const size_t bytes = kernels::packed_weight_bytes(N, K, DType::f32, device, training);
      expected += static_cast<size_t>(round_up(static_cast<int64_t>(bytes), Plan::kAlignment) * times);
    };
    add(144, 48, 3);
    add(48, 48, 3);
    add(192, 48, 3);
    add(48, 192, 3);
    add(96, 48, 1);
    EXPECT_EQ(plan.layout().category_bytes[static_cast<size_t>(Category::packed_weights)], expected);
  }
}

// Chunks of the head are recorded without going through them, however many there are.
TEST(TransformerPlan, DryRunsOfAnyNumberOfChunksRecordTheSameWork) {
  const auto dry = [](int64_t loss_rows) {
    const std::unique_ptr<Model> model = create_transformer(families::gpt2::kFamily, tiny_shape());
    Plan plan;
    Context context;
    context.device = cpu_device(1);
    const BatchShape batch{.B = 1'000'000, .T = 41, .loss_rows = loss_rows};
    model->plan(plan, batch, DType::f32, context.device);
    DryRun record;
    context.dry_run = &record;
    model->forward_backward(context, nullptr, nullptr, batch.B, batch.T, 1.0f, nullptr);
    return record;
  };
  const int64_t rows = 41'000'000;
  const DryRun one = dry(rows);
  const int64_t body = one.kernel_calls.at("linear_forward") - 1;
  for (const int64_t loss_rows : {1, 7, 4096, 40'999'999}) {
    const DryRun many = dry(loss_rows);
    const int64_t chunks = (rows + loss_rows - 1) / loss_rows;
    EXPECT_DOUBLE_EQ(many.flops, one.flops) << loss_rows;
    EXPECT_DOUBLE_EQ(many.kernel_flops.at("linear_backward_weight"),
                     one.kernel_flops.at("linear_backward_weight"));
    EXPECT_EQ(many.kernel_calls.at("linear_forward"), body + chunks);
    EXPECT_EQ(many.kernel_calls.at("softmax_cross_entropy"), chunks);
  }
}

// Flops and calls of one pass, found without memory.
TEST(Gpt2Plan, DryRun) {
  const ModelShape m = gpt2_124m();
  const BatchShape batch{.B = 4, .T = 1024, .loss_rows = 1000, .training = true, .cache = 1024};
  const std::unique_ptr<Model> model = create_transformer(families::gpt2::kFamily, m);
  Plan plan;
  Context context;
  context.device = cpu_device(1);
  model->parameters().plan(plan, DType::f32, true);
  model->plan(plan, batch, DType::f32, context.device);

  const double R = 4096, L = 12, C = 768;
  const double products = R * (2 * L * 12 * C * C + 2 * 50304 * C);  // 12 C^2 weights in a layer of F = 4C
  const double attention = 2 * L * R * 1024 * C;  // scores and values, the causal half: T/2 keys on average
  {
    DryRun dry_run;
    context.dry_run = &dry_run;
    model->forward(context, nullptr, nullptr, 4, 1024, nullptr);
    EXPECT_DOUBLE_EQ(dry_run.flops, products + attention);
    EXPECT_EQ(dry_run.kernel_calls["linear_forward"], 4 * 12 + 5);  // five chunks of rows in the head
    EXPECT_EQ(dry_run.kernel_calls["softmax_cross_entropy"], 5);
    EXPECT_EQ(dry_run.kernel_calls.count("linear_backward_weight"), 0u);
  }
  {
    DryRun dry_run;
    context.dry_run = &dry_run;
    model->forward_backward(context, nullptr, nullptr, 4, 1024, 1.0f, nullptr);
    EXPECT_DOUBLE_EQ(dry_run.flops, 3 * (products + attention));
    EXPECT_EQ(dry_run.kernel_calls["linear_forward"], 4 * 12 + 5);  // nothing is computed twice
    EXPECT_EQ(dry_run.kernel_calls["linear_backward_weight"], 4 * 12 + 5);
    EXPECT_EQ(dry_run.kernel_calls["linear_backward_input"], 4 * 12 + 5);
    EXPECT_EQ(dry_run.kernel_calls["layernorm_backward"], 2 * 12 + 1);
  }
  {
    DryRun dry_run;
    context.dry_run = &dry_run;
    model->prefill(context, nullptr, 1024, 8, nullptr);
    EXPECT_DOUBLE_EQ(dry_run.flops, 1024 * 2 * L * 12 * C * C + attention / 4 + 2 * 50304 * C);
  }
  {
    DryRun dry_run;  // one token's work, and scores and values of the 701 positions that it sees
    context.dry_run = &dry_run;
    model->decode(context, nullptr, 700, nullptr);
    EXPECT_DOUBLE_EQ(dry_run.flops, 2 * (L * 12 * C * C + 50304 * C) + 4 * L * 701 * C);
  }
}

}  // namespace
}  // namespace kiln::models
