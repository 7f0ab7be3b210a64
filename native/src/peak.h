// The measured speed of the multiplication itself: what a share of the peak is a share of.
#pragma once

#include "kernels.h"

namespace allmlp {

// Operations per second, two for each multiply-add, of `threads` threads that multiply in registers and nothing else:
// the best of `repeats` runs of about `seconds` each.
double peak(const Kernels& kernels, int threads, double seconds, int repeats);

}  // namespace allmlp
