// The kernels of the program: the PTX that nvcc put into its objects, found when they register themselves.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "tests/cuda_emulator/program.h"

namespace kiln::emulator {

class Module {
 public:
  explicit Module(std::string ptx);

  // Decodes the kernel at its first use. Throws PtxError.
  const Kernel& kernel(const std::string& name);

 private:
  void allocate_variables();

  ModuleText text_;
  bool has_variables_ = false;
  std::map<std::string, uint64_t> variables_;
  std::map<std::string, std::unique_ptr<Kernel>> kernels_;
};

// The PTX in what nvcc embeds, of the architecture that KILN_EMULATOR_ARCHITECTURE says; a report if it is not there or
// cannot be read.
std::string ptx_of_fat_binary(const uint8_t* data);

struct RegisteredKernel {
  Module* module = nullptr;
  std::string name;
  uint32_t dynamic_shared_limit = 48 * 1024;
};

Module* register_module(std::string ptx);
void register_kernel(const void* host_function, Module* module, const std::string& name);
RegisteredKernel* find_kernel(const void* host_function);  // null: no kernel

}  // namespace kiln::emulator
