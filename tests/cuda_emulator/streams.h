// Streams and events, as late as they may be: nothing that is put into a stream happens before a synchronisation, a
// blocking copy or another stream that waits for it asks for it. What a program forgets to wait for is then not there.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/cuda_emulator/warp.h"

namespace kiln::emulator {

// Of each stream (by number) the last operation that is ordered before something.
using Known = std::map<int, uint64_t>;

struct Operation {
  std::string name;
  std::function<void(const Operation&)> run;  // empty: a mark
  std::vector<std::shared_ptr<Operation>> after;
  int stream = 0;
  uint64_t sequence = 0;
  Known known;
  bool done = false;
  double finished_at = 0;  // seconds
};

struct Stream {
  int number = 0;
  bool blocking = true;  // waits for the default stream and is waited for by it
  std::shared_ptr<Operation> last;
  uint64_t sequence = 0;
};

struct Event {
  std::shared_ptr<Operation> recorded;
};

class Streams {
 public:
  static Streams& instance();

  Stream* create(bool blocking);
  void destroy(Stream* stream);  // runs what it holds first
  Stream* default_stream() { return default_.get(); }
  bool exists(const Stream* stream) const;
  size_t count() const { return streams_.size(); }

  std::shared_ptr<Operation> add(Stream* stream, std::string name, std::function<void(const Operation&)> run,
                                 const std::shared_ptr<Operation>& also_after = nullptr);
  // The host waits: runs the operation and everything before it.
  void wait_for(const std::shared_ptr<Operation>& operation);
  void wait_for_all();

  // Page-locked host memory that an operation reads or writes when it runs.
  void note_host_memory(const Operation& operation, const void* memory, size_t bytes);
  // The name of an operation that uses some of it and that the host has not waited for; empty: there is none.
  std::string pending_on(const void* memory, size_t bytes);

 private:
  Streams();
  void execute(const std::shared_ptr<Operation>& operation);
  void forget_finished();  // of host_memory_: what the host has waited for

  struct HostMemory {
    uint64_t begin, bytes;
    std::string operation;
    int stream;
    uint64_t sequence;
  };

  std::unique_ptr<Stream> default_;
  std::vector<std::unique_ptr<Stream>> streams_;
  int next_number_ = 1;
  std::vector<std::shared_ptr<Operation>> destroyed_;  // the last operations of streams that are gone
  std::vector<HostMemory> host_memory_;
  Known host_;  // what the host has waited for
};

// Order of the operation that is about to run after those that have run.
class History : public EarlierOperations {
 public:
  explicit History(const Operation& operation) : operation_(operation) {}
  bool is_ordered(uint32_t segment) const override;
  std::string name(uint32_t segment) const override;

  // Notes that the operation starts, with a segment of its own, which is returned.
  uint32_t begin() const;
  // Everything before this segment is ordered before the operation.
  uint32_t ordered_end() const;

 private:
  const Operation& operation_;
};

}  // namespace kiln::emulator
