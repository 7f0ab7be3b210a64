#include "threads.h"

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>
#include <pthread.h>
#include <unistd.h>

namespace allmlp {
namespace {

std::atomic<uint32_t> forks{0};  // from the first process to this one

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

constexpr int kSpins = 2000;  // some tens of microseconds
// Before a thread without work goes to sleep, some hundred microseconds: waking it in a virtual machine takes that long,
// 1 to 2 % of an image of Mixer-S/16 in int8, and calls for one image follow each other sooner.
constexpr int kSpinsAfterWork = 4 * kSpins;

class Pool {
 public:
  void run(int threads, const std::function<void(int)>& work) {
    std::lock_guard<std::mutex> one_at_a_time(running_);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      while (static_cast<int>(workers_.size()) < threads - 1) {
        const int index = static_cast<int>(workers_.size()) + 1;
        try {
          workers_.emplace_back([this, index, seen = job_.load()] { serve(index, seen); });
        } catch (const std::system_error&) {
          throw TooManyThreads("the system gives this process " + std::to_string(index) + " threads, not " +
                               std::to_string(threads) + "; ask for fewer");
        }
      }
      work_ = &work;
      threads_ = threads;
      unfinished_.store(threads - 1, std::memory_order_relaxed);
      job_.fetch_add(1, std::memory_order_release);
    }
    changed_.notify_all();
    work(0);
    for (int spins = 0; unfinished_.load(std::memory_order_acquire) > 0; ++spins)
      spins < kSpins ? pause() : std::this_thread::yield();
  }

 private:
  // A thread that has no part in a job only looks at it, and sleeps on.
  void serve(int index, unsigned seen) {
    for (bool worked = true;;) {
      for (int spins = 0; worked && spins < kSpinsAfterWork && job_.load(std::memory_order_acquire) == seen; ++spins) pause();
      const std::function<void(int)>* work;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [&] { return job_.load(std::memory_order_relaxed) != seen; });
        seen = job_.load(std::memory_order_relaxed);
        worked = index < threads_;
        work = work_;
      }
      if (!worked) continue;
      (*work)(index);
      unfinished_.fetch_sub(1, std::memory_order_release);
    }
  }

  std::mutex running_, mutex_;
  std::condition_variable changed_;
  std::vector<std::thread> workers_;
  const std::function<void(int)>* work_ = nullptr;
  int threads_ = 0;
  std::atomic<unsigned> job_{0};
  std::atomic<int> unfinished_{0};
};

}  // namespace

void run_on_threads(int threads, const std::function<void(int)>& work) {
  if (threads <= 1) return work(0);
  static OfThisProcess<Pool>* pool = new OfThisProcess<Pool>;  // never destroyed: threads may serve while a program ends
  pool->get().run(threads, work);
}

uint64_t this_process() {
  static const int counted = pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });
  static_cast<void>(counted);
  return uint64_t{forks.load(std::memory_order_relaxed)} << 32 | static_cast<uint32_t>(getpid());
}

void Barrier::wait() {
  const unsigned round = round_.load(std::memory_order_relaxed);
  if (missing_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    missing_.store(threads_, std::memory_order_relaxed);
    round_.fetch_add(1, std::memory_order_release);
    return;
  }
  for (int spins = 0; round_.load(std::memory_order_acquire) == round; ++spins)
    spins < kSpins ? pause() : std::this_thread::yield();
}

}  // namespace allmlp
