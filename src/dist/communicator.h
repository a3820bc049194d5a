// What ranks say to each other. With one rank every call is a no-op, so that callers need not ask.
#pragma once

#include <cstdint>
#include <memory>

namespace kiln::dist {

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Sums over ranks, in place, in rank order (the result is the same on every rank, bit for bit).
  virtual void sum(float* data, int64_t n) = 0;
  virtual void sum(double* data, int64_t n) = 0;

  // True on every rank if it is true on any: all ranks skip a step with non-finite gradients together.
  virtual bool any(bool flag) = 0;
};

// The communicator of a run with one rank.
std::unique_ptr<Communicator> single_rank();

}  // namespace kiln::dist
