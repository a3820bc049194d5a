// parallel_for: the only threading primitive of the program.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace kiln {

// A borrowed callable: no allocation, valid as long as the call it is passed to.
template <class Signature>
class FunctionRef;
template <class R, class... Args>
class FunctionRef<R(Args...)> {
 public:
  template <class F, class = std::enable_if_t<!std::is_same_v<std::decay_t<F>, FunctionRef>>>
  FunctionRef(F&& f)  // NOLINT(bugprone-forwarding-reference-overload): implicit on purpose
      : object_(const_cast<void*>(static_cast<const void*>(&f))), call_([](void* object, Args... args) -> R {
          return (*static_cast<std::remove_reference_t<F>*>(object))(args...);
        }) {}
  R operator()(Args... args) const { return call_(object_, args...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

// A fixed team of threads. Idle threads spin for some microseconds, then yield, then sleep, and a
// job waits only for those that have come to it: cores are often shared.
class ThreadPool {
 public:
  // threads >= 1; the caller is one of them. Throws Error(ExitCode::device) when the system gives fewer.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(begin, end, worker) until [0, n) is covered; each call gets one chunk of `grain` indices (the
  // last may be shorter), handed out dynamically since cores differ in speed. 0 <= worker < size() names the
  // thread, for scratch memory only: results must not depend on it. Chunks begin at multiples of grain
  // whatever the number of threads, so a reduction over per-chunk partial results in chunk order is
  // deterministic. The first exception thrown by a body is rethrown here. Calls do not nest.
  void parallel_for(int64_t n, int64_t grain, FunctionRef<void(int64_t begin, int64_t end, int worker)> body);

 private:
  struct Job {
    int64_t n, grain;
    FunctionRef<void(int64_t, int64_t, int)> body;
  };
  void work(const Job& job, int worker);
  uint64_t join(uint64_t seen);
  void worker_loop(int worker);
  void stop_workers();  // and waits for their end

  std::vector<std::thread> workers_;
  const Job* job_ = nullptr;
  std::atomic<int64_t> next_{0};    // first index not handed out yet
  std::atomic<uint64_t> state_{0};  // of the current job, packed: see parallel.cpp
  std::atomic<int> sleeping_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::exception_ptr error_;
};

}  // namespace kiln
