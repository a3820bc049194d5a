#include "src/core/parallel.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "src/core/error.h"

namespace kiln {
namespace {

void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

constexpr int kSpins = 2000;  // some 20-60 us of pause instructions: longer than the gap between two kernels
constexpr int kYields = 200;  // then let others run, still without a system call to sleep

}  // namespace

ThreadPool::ThreadPool(int threads) {
  require(threads >= 1, "a thread pool needs at least one thread");
  try {
    workers_.reserve(static_cast<size_t>(threads - 1));
    for (int i = 1; i < threads; i++) workers_.emplace_back([this, i] { worker_loop(i); });
  } catch (const std::exception& problem) {  // std::system_error; std::bad_alloc where memory is what lacks
    const int working = size();
    stop_workers();
    throw Error(ExitCode::device,
                fmt::format("cannot start {} threads: after {} the system refuses another ({})", threads,
                            working, problem.what()),
                fmt::format("lower device.threads to at most {}, or raise the limits on processes and memory "
                            "(ulimit -u, ulimit -v)",
                            working));
  }
}

ThreadPool::~ThreadPool() {
  stop_workers();
}

void ThreadPool::stop_workers() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (auto& t : workers_) t.join();
}

void ThreadPool::work(const Job& job, int worker) {
  try {
    for (;;) {
      const int64_t begin = next_.fetch_add(job.grain);
      if (begin >= job.n) return;
      job.body(begin, std::min(begin + job.grain, job.n), worker);
    }
  } catch (...) {
    next_ = job.n;  // nobody starts another chunk
    std::lock_guard lock(mutex_);
    if (!error_) error_ = std::current_exception();
  }
}

// state_: how many jobs there were (high bits), whether the last one still takes workers, how many are inside
// it.
namespace {
constexpr uint64_t kInside = 1, kOpen = uint64_t{1} << 16, kJob = uint64_t{1} << 17;
bool is_open(uint64_t state) {
  return (state & kOpen) != 0;
}
uint64_t job_number(uint64_t state) {
  return state / kJob;
}
uint64_t inside(uint64_t state) {
  return state % kOpen;
}
}  // namespace

// Enters the current job unless it is over or was job number `seen`; returns the number of the job entered,
// or `seen`.
uint64_t ThreadPool::join(uint64_t seen) {
  uint64_t state = state_.load();
  while (is_open(state) && job_number(state) != seen) {
    if (state_.compare_exchange_weak(state, state + kInside)) return job_number(state);
  }
  return seen;
}

void ThreadPool::worker_loop(int worker) {
  uint64_t seen = 0;
  const auto wanted = [&] {
    const uint64_t state = state_.load();
    return stop_.load() || (is_open(state) && job_number(state) != seen);
  };
  for (;;) {
    for (int waits = 0; !wanted(); waits++) {
      if (waits < kSpins) {
        pause_briefly();
      } else if (waits < kSpins + kYields) {
        std::this_thread::yield();
      } else {
        std::unique_lock lock(mutex_);
        sleeping_++;
        wake_.wait(lock, wanted);
        sleeping_--;
      }
    }
    if (stop_) return;
    const uint64_t number = join(seen);
    if (number == seen) continue;
    seen = number;
    work(*job_, worker);
    state_ -= kInside;
  }
}

void ThreadPool::parallel_for(int64_t n, int64_t grain, FunctionRef<void(int64_t, int64_t, int)> body) {
  if (n <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  if (n <= grain || workers_.empty()) {
    for (int64_t begin = 0; begin < n; begin += grain) body(begin, std::min(begin + grain, n), 0);
    return;
  }
  const Job job{n, grain, body};
  job_ = &job;
  next_ = 0;
  state_ = (job_number(state_.load()) + 1) * kJob + kOpen;
  // A worker counts itself as sleeping while it holds the mutex and before it looks at the state, so either
  // this load sees it or it sees the new job.
  if (sleeping_.load() > 0) {
    { std::lock_guard lock(mutex_); }
    wake_.notify_all();
  }
  work(job, 0);
  // Whoever has not come by now is not waited for: on a busy machine it may be long before it runs at all.
  state_ -= kOpen;
  for (int waits = 0; inside(state_.load()) > 0; waits++) {
    if (waits < kSpins) {
      pause_briefly();
    } else {
      std::this_thread::yield();
    }
  }
  job_ = nullptr;
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

}  // namespace kiln
