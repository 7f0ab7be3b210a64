// Which tanh GELU runs, on which threads, and how Python calls it.
#include <dlfcn.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu.h"
#include "gil.h"
#include "table.h"
#include "tanh_gelu.h"
#include "threads.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace allmlp {

#define EACH_PRECISION(level) extern const TanhGelu level##_tanh_gelu_fp32, level##_tanh_gelu_bf16;
#if defined(__x86_64__)
EACH_PRECISION(avx512)
EACH_PRECISION(avx2)
#endif
EACH_PRECISION(portable)
#undef EACH_PRECISION

namespace {

// The best first.
const std::vector<const TanhGelu*>& table() {
  static const auto& rows = *new std::vector<const TanhGelu*>{  // never destroyed, as in table.cpp
#if defined(__x86_64__)
      &avx512_tanh_gelu_fp32,   &avx512_tanh_gelu_bf16,    //
      &avx2_tanh_gelu_fp32,     &avx2_tanh_gelu_bf16,      //
#endif
      &portable_tanh_gelu_fp32, &portable_tanh_gelu_bf16,
  };
  return rows;
}

bool here(const TanhGelu& row) { return (row.features & ~cpu_features()) == 0; }

const TanhGelu& find(const std::string& level, Precision precision) {
  for (const TanhGelu* row : table())
    if (row->precision == precision && (level == "auto" || level == row->level) && here(*row)) return *row;
  throw std::invalid_argument("no level '" + level + "' of GELU runs here; tanh_gelus() lists those that do");
}

// The threads of the program's OpenMP (GCC's, which PyTorch has), if it has them, else the engine's own. Between two
// operations those of PyTorch wait in a loop: others would have to share the processors with them.
void run_on_shared_threads(int threads, const std::function<void(int)>& work) {
  using Parallel = void (*)(void (*)(void*), void*, unsigned, unsigned);
  const auto parallel = reinterpret_cast<Parallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  if (threads <= 1 || !parallel) return run_on_threads(threads, work);
  struct Team {
    const std::function<void(int)>& work;
    std::atomic<int> next{0};
  } team{work};
  parallel([](void* data) {
    Team& team = *static_cast<Team*>(data);
    team.work(team.next.fetch_add(1));
  }, &team, unsigned(threads), 0);
}

constexpr int64_t kPiece = 1 << 14;  // numbers that a thread takes at once; however many threads there are in the end

using In = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;
using Out = nb::ndarray<nb::c_contig, nb::device::cpu>;

Precision precision_of(const In& x) {
  if (x.dtype() == nb::dtype<float>()) return Precision::fp32;
  if (x.dtype() == nb::dtype<uint16_t>()) return Precision::bf16;
  throw std::invalid_argument("GELU takes float32, or uint16 with the bits of bfloat16");
}

void run(const In& x, const std::optional<In>& of_y, const Out& to, int threads, const std::string& level) {
  const Precision precision = precision_of(x);
  const TanhGelu& row = find(level, precision);
  const int64_t count = int64_t(x.size()), size = precision == Precision::fp32 ? 4 : 2;
  if (to.dtype() != x.dtype() || int64_t(to.size()) != count ||
      (of_y && (of_y->dtype() != x.dtype() || int64_t(of_y->size()) != count)))
    throw std::invalid_argument("GELU's arrays must be of one type and size");
  const char* from = static_cast<const char*>(x.data());
  const char* gradient = of_y ? static_cast<const char*>(of_y->data()) : nullptr;
  char* into = static_cast<char*>(to.data());
  const int64_t pieces = (count + kPiece - 1) / kPiece;
  WithoutGil without;
  std::atomic<int64_t> next{0};
  run_on_shared_threads(int(std::min<int64_t>(std::max(threads, 1), pieces)), [&](int) {
    for (int64_t piece; (piece = next.fetch_add(1, std::memory_order_relaxed)) < pieces;) {
      const int64_t at = piece * kPiece * size, numbers = std::min(kPiece, count - piece * kPiece);
      if (gradient)
        row.gradient(from + at, gradient + at, into + at, numbers);
      else
        row.value(from + at, into + at, numbers);
    }
  });
}

nb::list rows() {
  nb::list found;
  for (const TanhGelu* row : table()) {
    nb::dict about;
    about["level"] = row->level;
    about["precision"] = name_of(row->precision);
    about["here"] = here(*row);
    found.append(about);
  }
  return found;
}

}  // namespace

void bind_tanh_gelu(nb::module_& module) {
  module.def("tanh_gelu", &run, "x"_a.noconvert(), "of_y"_a.noconvert().none(), "to"_a.noconvert(), "threads"_a,
             "level"_a);
  module.def("tanh_gelus", &rows);
}

}  // namespace allmlp
