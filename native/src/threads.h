// One small set of threads for the whole process: however many models there are, no more threads than asked for run.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <stdexcept>

namespace allmlp {

struct TooManyThreads : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Calls work(0) … work(threads - 1), each on a thread of its own, the caller's among them; returns when all are done.
// Calls from several threads of the program wait for each other. `work` must not throw.
// Throws TooManyThreads, before any work, where the system gives this process no more threads.
void run_on_threads(int threads, const std::function<void(int)>& work);

// Another number in each process that a fork makes. Its id alone will not do: in a new namespace that is 1 again.
uint64_t this_process();

// One T for each process: whatever locks other threads held during a fork stay locked in the child, and threads stay
// with the parent, so the child makes itself a new T (and leaves the parent's alone).
template <class T>
class OfThisProcess {
 public:
  ~OfThisProcess() {
    const Slot* slot = slot_.load();
    if (slot && slot->process == this_process()) delete slot;
  }
  T& get() {
    Slot* slot = slot_.load();
    if (slot && slot->process == this_process()) return slot->value;
    Slot* fresh = new Slot;
    if (slot_.compare_exchange_strong(slot, fresh)) return fresh->value;
    delete fresh;  // another thread was faster
    return slot->value;
  }

 private:
  struct Slot {
    const uint64_t process = this_process();
    T value;
  };
  std::atomic<Slot*> slot_{nullptr};
};

// Where `threads` threads wait for each other. Spins briefly, then lets others run.
class Barrier {
 public:
  explicit Barrier(int threads) : threads_(threads), missing_(threads) {}
  void wait();

 private:
  const int threads_;
  std::atomic<int> missing_;
  std::atomic<unsigned> round_{0};
};

}  // namespace allmlp
