// The device layer: what there is, memory, streams and events, staging.
#include <cstring>

#include "src/device/memory.h"
#include "tests/cuda/support.h"

namespace kiln::tests::device_test {
namespace {

TEST(CudaDevice, SaysWhatItIs) {
  EXPECT_TRUE(has_cuda());
  EXPECT_EQ(cuda_obstacle().sentence, "");
  const Device device = cuda_device();
  EXPECT_EQ(device.kind, DeviceKind::cuda);
  EXPECT_FALSE(device.name.empty());
  EXPECT_GE(device.capability, kLeastCapability);
  EXPECT_GT(device.memory_bytes, int64_t{64} << 20);
  const std::string versions = cuda_versions();
  for (const std::string& part :
       {device.name, std::string("driver"), fmt::format("sm_{}", device.capability)}) {
    EXPECT_NE(versions.find(part), std::string::npos) << versions << " lacks " << part;
  }
}

TEST(CudaDevice, RefusesANumberThatIsNone) {
  for (int index : {-1, 99}) {
    try {
      cuda_device(index);
      ADD_FAILURE() << "found device " << index;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::device);
      EXPECT_NE(std::string(error.what()).find(fmt::format("no CUDA device {}:", index)), std::string::npos)
          << error.what();
      EXPECT_FALSE(error.hint().empty());
    }
  }
}

Plan some_plan() {
  Plan plan;
  plan.add("weights", Category::parameters, 1000);
  plan.add("nothing", Category::gradients, 0);
  plan.add("first", Category::activations, 4000, {0, 1});
  plan.add("second", Category::activations, 3000, {2, 3});
  plan.add("byte", Category::workspace, 1);
  return plan;
}

TEST(CudaArena, StartsAsZerosAndKeepsTheLayout) {
  Gpu gpu;
  const Plan plan = some_plan();
  const Plan::Layout layout = plan.layout();
  for (ArenaMode mode : {ArenaMode::slab, ArenaMode::discrete}) {
    const Arena arena(plan, mode, cuda_device());
    size_t sum = 0;
    for (size_t i = 0; i < plan.entries().size(); i++) {
      const auto& entry = plan.entries()[i];
      const char* p = arena.at<char>(static_cast<BufferId>(i));
      sum += entry.bytes;
      EXPECT_EQ(p == nullptr, entry.bytes == 0) << entry.name;
      if (!p) continue;
      EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % Plan::kAlignment, 0u) << entry.name;
      std::vector<char> content(entry.bytes, 1);
      gpu.download(content.data(), p, content.size());
      EXPECT_EQ(content, std::vector<char>(entry.bytes, 0)) << entry.name;
      if (mode == ArenaMode::slab) {
        EXPECT_EQ(p - arena.at<char>(0), static_cast<int64_t>(layout.offsets[i]));
      }
    }
    EXPECT_EQ(arena.allocated_bytes(), mode == ArenaMode::slab ? layout.total_bytes : sum);
  }
}

TEST(CudaArena, RefusesMoreThanTheDeviceHasWithThePlan) {
  Plan plan;
  plan.add("huge", Category::optimizer_state, size_t{1} << 50);
  for (ArenaMode mode : {ArenaMode::slab, ArenaMode::discrete}) {
    try {
      const Arena arena(plan, mode, cuda_device());
      ADD_FAILURE() << "a petabyte";
    } catch (const OutOfMemory& error) {
      for (const std::string& part :
           {cuda_device().name, std::string("free"), std::string("optimizer state")}) {
        EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
            << error.what() << " lacks " << part;
      }
    }
  }
  EXPECT_EQ(cuda_allocate(size_t{1} << 50), nullptr);
}

std::vector<unsigned char> bytes_of(size_t n, int seed) {
  std::vector<unsigned char> bytes(n);
  for (size_t i = 0; i < n; i++)
    bytes[i] = static_cast<unsigned char>(i * 131 + i / 251 + static_cast<size_t>(seed));
  return bytes;
}

// More pieces than there are buffers, a last piece of every kind, and the source gone before the copy may have begun.
TEST(CudaStaging, CarriesAnySizeThereAndBack) {
  constexpr size_t kBuffer = 4096;
  Gpu gpu;
  CudaStaging staging(kBuffer);
  for (size_t n : {size_t{0}, size_t{1}, kBuffer - 1, kBuffer, kBuffer + 1, 2 * kBuffer, 7 * kBuffer + 13}) {
    const DeviceArray<unsigned char> first(gpu, static_cast<int64_t>(n)),
        second(gpu, static_cast<int64_t>(n));
    auto source = bytes_of(n, 1);
    staging.upload(first.data(), source.data(), n, gpu.stream());
    source = bytes_of(n, 2);
    staging.upload(second.data(), source.data(), n, gpu.stream());
    std::memset(source.data(), 0xEE, n);
    std::vector<unsigned char> back(n), other(n);
    staging.download(back.data(), first.data(), n, gpu.stream());
    staging.download(other.data(), second.data(), n, gpu.stream());
    EXPECT_EQ(back, bytes_of(n, 1)) << n;
    EXPECT_EQ(other, bytes_of(n, 2)) << n;
  }
}

// The buffers go while copies from them may be on their way.
TEST(CudaStaging, EndsAfterItsLastCopies) {
  constexpr size_t kBuffer = 4096, n = 2 * kBuffer;
  Gpu gpu;
  const DeviceArray<unsigned char> array(gpu, static_cast<int64_t>(n));
  for (unsigned char seed = 1; seed <= 8; seed++) {
    CudaStaging(kBuffer).upload(array.data(), bytes_of(n, seed).data(), n, gpu.stream());
    std::vector<unsigned char> back(n);
    CudaStaging(kBuffer).download(back.data(), array.data(), n, gpu.stream());
    EXPECT_EQ(back, bytes_of(n, seed)) << int{seed};
  }
}

TEST(CudaStream, EventsOrderStreams) {
  Gpu gpu;
  CudaStream other;
  CudaEvent filled;
  filled.synchronize();  // nothing was recorded: nothing to wait for
  const std::vector<float> ones(5000, 1.0f);
  const Tensor a(gpu, DType::f32, ones), sum(gpu, DType::f32, 5000);
  const auto n = static_cast<int64_t>(ones.size());
  kernels::residual_forward(gpu.context(), {sum.data(), a.data(), a.data(), n, DType::f32});
  filled.record(gpu.stream());
  other.wait_for(filled);
  CudaStaging staging(1 << 12);
  std::vector<float> seen(ones.size());
  staging.download(seen.data(), sum.data(), seen.size() * 4, other);
  EXPECT_EQ(seen, std::vector<float>(ones.size(), 2.0f));
  other.synchronize();
}

}  // namespace
}  // namespace kiln::tests::device_test
