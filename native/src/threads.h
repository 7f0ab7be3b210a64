// One small set of threads for the whole process: however many models there are, no more threads than asked for run.
#pragma once

#include <atomic>
#include <functional>

namespace allmlp {

// Calls work(0) … work(threads - 1), each on a thread of its own, the caller's among them; returns when all are done.
// Calls from several threads of the program wait for each other. `work` must not throw.
void run_on_threads(int threads, const std::function<void(int)>& work);

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
