#include "tests/cuda_emulator/modules.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <utility>

#include "tests/cuda_emulator/decode.h"
#include "tests/cuda_emulator/findings.h"
#include "tests/cuda_emulator/memory.h"

namespace kiln::emulator {

namespace {

template <class T>
T read(const uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

std::map<const void*, RegisteredKernel>& kernels() {
  static auto* all = new std::map<const void*, RegisteredKernel>;
  return *all;
}

// ".entry NAME(" of the first kernel in a text of PTX.
std::string first_entry(const std::string& ptx) {
  const size_t begin = ptx.find(".entry ");
  return begin == std::string::npos ? "" : ptx.substr(begin, ptx.find('(', begin) + 1 - begin);
}

// KILN_EMULATOR_PTX=FILE:FILE... has the kernels of those files executed in the place of those of the same names, so
// that a changed kernel need not be linked again.
std::string replacement_of(std::string ptx) {
  const char* files = std::getenv("KILN_EMULATOR_PTX");
  std::istringstream list(files == nullptr ? "" : files);
  for (std::string name; std::getline(list, name, ':');) {
    std::ifstream file(name, std::ios::binary);
    std::string text(std::istreambuf_iterator<char>(file), {});
    const std::string entry = first_entry(text);
    if (entry.empty()) report(fmt::format("KILN_EMULATOR_PTX: no kernel in {}", name));
    if (!entry.empty() && ptx.find(entry) != std::string::npos) return text;
  }
  return ptx;
}

// KILN_EMULATOR_ARCHITECTURE: of which architecture the PTX is that is executed, 80 unless it is said. An object may hold
// several, and the kernels in them are not the same: nvcc has more than one compiler.
uint32_t wanted_architecture() {
  const char* asked = std::getenv("KILN_EMULATOR_ARCHITECTURE");
  return asked == nullptr ? 80 : static_cast<uint32_t>(std::strtoul(asked, nullptr, 10));
}

}  // namespace

Module::Module(std::string ptx) : text_(std::move(ptx)) {}

void Module::allocate_variables() {
  has_variables_ = true;
  for (const Variable& variable : text_.variables()) {
    if (variable.space != Variable::Space::kGlobal && variable.space != Variable::Space::kConst) continue;
    Allocation* made = DeviceMemory::instance().allocate(variable.bytes, true, variable.alignment);
    if (made == nullptr) {
      report("the device's memory is too small for the module's variables");
      return;
    }
    // Variables without an initial value begin as zeros.
    std::memset(made->storage.get(), 0, variable.bytes);
    if (!variable.content.empty()) {
      std::memcpy(made->storage.get(), variable.content.data(),
                  std::min<size_t>(variable.content.size(), variable.bytes));
    }
    made->shadow->fill(0, variable.bytes, Record{record::kHostSegment} << record::kSegmentShift);
    variables_[std::string(variable.name)] = made->address;
  }
}

const Kernel& Module::kernel(const std::string& name) {
  if (!has_variables_) allocate_variables();
  std::unique_ptr<Kernel>& kernel = kernels_[name];
  if (!kernel) kernel = decode_kernel(text_, name, variables_);
  return *kernel;
}

std::string ptx_of_fat_binary(const uint8_t* data) {
  constexpr uint32_t kMagic = 0xba55ed50;
  constexpr uint16_t kPtx = 1;
  const uint32_t wanted = wanted_architecture();
  const std::string advice = fmt::format(
      "; build with nvcc -gencode arch=compute_{0},code=compute_{0} --compress-mode=none, or name another "
      "architecture in "
      "KILN_EMULATOR_ARCHITECTURE",
      wanted);
  if (read<uint32_t>(data) != kMagic) {
    report("an object of nvcc with an unknown kind of fat binary");
    return {};
  }
  // Header: magic, version, its size, size of what follows. Each entry: kind, version, its header's size, payload size,
  // at 28 the architecture.
  const uint8_t* entry = data + read<uint16_t>(data + 6);
  const uint8_t* end = entry + read<uint64_t>(data + 8);
  std::string others;
  while (entry < end) {
    const uint32_t header = read<uint32_t>(entry + 4);
    const uint64_t payload = read<uint64_t>(entry + 8);
    const uint32_t architecture = read<uint32_t>(entry + 28);
    const bool is_ptx = read<uint16_t>(entry) == kPtx;
    if (is_ptx && architecture == wanted) {
      std::string text(reinterpret_cast<const char*>(entry + header), payload);
      text.resize(std::strlen(text.c_str()));
      if (text.find(".version") == std::string::npos) report("the PTX in an object is compressed" + advice);
      return text;
    }
    if (is_ptx) others += fmt::format("{}compute_{}", others.empty() ? ", but of " : ", ", architecture);
    entry += header + payload;
  }
  report(fmt::format("an object of nvcc holds no PTX of compute_{}{}{}", wanted, others, advice));
  return {};
}

Module* register_module(std::string ptx) {
  static auto* modules = new std::vector<std::unique_ptr<Module>>;
  modules->push_back(std::make_unique<Module>(replacement_of(std::move(ptx))));
  return modules->back().get();
}

void register_kernel(const void* host_function, Module* module, const std::string& name) {
  kernels()[host_function] = {module, name};
}

RegisteredKernel* find_kernel(const void* host_function) {
  const auto found = kernels().find(host_function);
  return found == kernels().end() ? nullptr : &found->second;
}

}  // namespace kiln::emulator
