#include "peak.h"

#include <algorithm>
#include <chrono>

#include "threads.h"

namespace allmlp {

double peak(const Kernels& kernels, int threads, double seconds, int repeats) {
  using Clock = std::chrono::steady_clock;
  const auto time = [&](int64_t iterations) {
    const auto begin = Clock::now();
    const auto work = [&](int) { kernels.probe(iterations); };
    run_on_threads(threads, std::cref(work));
    return std::chrono::duration<double>(Clock::now() - begin).count();
  };
  int64_t iterations = 1000;
  double best = time(iterations);
  while (best < seconds / 4 && iterations < int64_t(1) << 50) best = time(iterations *= 2);
  iterations = std::max<int64_t>(1, int64_t(iterations * seconds / best));
  best = time(iterations);
  for (int i = 1; i < repeats; ++i) best = std::min(best, time(iterations));
  return 2.0 * kernels.rows * kernels.columns * kernels.group * double(iterations) * threads / best;
}

}  // namespace allmlp
