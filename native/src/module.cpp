// The Python module allmlp_native._engine.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "access.h"
#include "gil.h"
#include "network.h"
#include "peak.h"
#include "resize.h"
#include "table.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace allmlp {

void bind_tanh_gelu(nb::module_& module);  // tanh_gelu_table.cpp
namespace {

// How long a call does not look whether the user wants it to end. Asking takes the lock, and others may have it.
constexpr auto kDeaf = std::chrono::milliseconds(200);

using Images = nb::ndarray<const uint8_t, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
using Logits = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Image = nb::ndarray<const uint8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using NewImage = nb::ndarray<uint8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

template <typename Array>
std::array<size_t, 3> sides_of(const Array& image) {
  return {image.shape(0), image.shape(1), image.shape(2)};
}

std::unique_ptr<Network> opened(Source& source, const std::string& level, int threads, uint64_t memory) {
  try {
    return std::make_unique<Network>(source, level, threads, memory);
  } catch (const BadModel& refusal) {
    throw BadModel(std::string(refusal.what()) + kCopyAgain);
  }
}

// The path as the system has it: bytes, which need be no text.
std::unique_ptr<Network> from_file(nb::bytes path, const std::string& level, int threads, uint64_t memory) {
  const std::string name(path.c_str(), path.size());
  WithoutGil without;
  FileSource source(name);
  return opened(source, level, threads, memory);
}

std::unique_ptr<Network> from_bytes(nb::bytes data, const std::string& level, int threads, uint64_t memory) {
  MemorySource source(data.c_str(), data.size());
  WithoutGil without;  // the bytes are the caller's, and do not change
  return opened(source, level, threads, memory);
}

void run(Network& network, Images images, Logits logits) {
  const Header& h = network.header();
  const size_t count = images.shape(0);
  if (images.shape(1) != h.image_height || images.shape(2) != h.image_width || images.shape(3) != 3 ||
      logits.shape(0) != count || logits.shape(1) != h.classes)
    throw std::invalid_argument("expected images uint8 (N, " + std::to_string(h.image_height) + ", " +
                                std::to_string(h.image_width) + ", 3) and logits float32 (N, " +
                                std::to_string(h.classes) + ")");
  const size_t image_bytes = size_t(h.image_height) * h.image_width * 3;
  for (size_t done = 0; done < count;) {
    {
      WithoutGil without;
      const auto begun = std::chrono::steady_clock::now();
      do {
        const size_t here = std::min<size_t>(count - done, network.together());
        network.run(images.data() + done * image_bytes, int64_t(here), logits.data() + done * h.classes);
        done += here;
      } while (done < count && std::chrono::steady_clock::now() - begun < kDeaf);
    }
    if (done < count && PyErr_CheckSignals() != 0) throw nb::python_error();
  }
}

// Into an image that is there: its rows and columns are those of the result.
void resize_into(Image image, int height, int width, int top, int left, const std::string& interpolation,
                 NewImage result) {
  Filter filter;
  if (interpolation == "nearest")
    filter = Filter::nearest;
  else if (interpolation == "bilinear")
    filter = Filter::bilinear;
  else if (interpolation == "bicubic")
    filter = Filter::bicubic;
  else
    throw std::invalid_argument("no interpolation '" + interpolation + "'; accepted: nearest, bilinear, bicubic");
  for (const auto& [rows, columns, channels] : {sides_of(image), sides_of(result)})
    if (channels != 3 || rows < 1 || rows > 65536 || columns < 1 || columns > 65536)
      throw std::invalid_argument("images are uint8 (H, W, 3) with sides of 1 to 65536 pixels");
  WithoutGil without;
  resize(image.data(), int(image.shape(0)), int(image.shape(1)),
         {height, width, top, left, int(result.shape(0)), int(result.shape(1))}, filter, result.data());
}

nb::list kernels() {
  nb::list rows;
  for (const Kernels* k : all_kernels()) {
    nb::dict row;
    row["level"] = k->level;
    row["precision"] = name_of(k->precision);
    row["rows"] = k->rows;
    row["columns"] = k->columns;
    row["group"] = k->group;
    row["here"] = runs_here(*k);
    rows.append(row);
  }
  return rows;
}

}  // namespace
}  // namespace allmlp

NB_MODULE(_engine, m) {
  using namespace allmlp;
  m.doc() = "The engine of allmlp, compiled.";
  nb::set_leak_warnings(false);  // a model that a thread still has at the end of the program is no mistake
  m.attr("magic") = nb::bytes(kMagic, sizeof kMagic);
  m.attr("copy_again") = kCopyAgain;
  nb::exception<BadModel>(m, "BadModel", PyExc_ValueError);
  nb::exception<TooManyThreads>(m, "TooManyThreads", PyExc_ValueError);
  nb::class_<Network>(m, "Network")
      .def("run", &run, "images"_a, "logits"_a)
      .def_prop_ro("about", &Network::about)
      .def_prop_ro("level", &Network::level)
      .def_prop_ro("precision", [](const Network& n) {
        const auto& all = n.precisions();
        return name_of(*std::max_element(all.begin(), all.end()));
      })
      .def_prop_ro("precisions", [](const Network& n) {
        std::vector<std::string> names;
        for (Precision precision : n.precisions()) names.push_back(name_of(precision));
        return names;
      })
      .def_prop_ro("image_size", [](const Network& n) {
        return nb::make_tuple(n.header().image_height, n.header().image_width);
      })
      .def_prop_ro("num_classes", [](const Network& n) { return n.header().classes; })
      .def_prop_ro("multiply_adds", [](const Network& n) {
        nb::dict of_precisions;
        for (Precision precision : {Precision::fp32, Precision::bf16, Precision::int8})
          if (n.multiply_adds(precision)) of_precisions[name_of(precision)] = n.multiply_adds(precision);
        return of_precisions;
      })
      .def_prop_ro("memory", &Network::memory)
      .def_prop_ro("together", &Network::together);
  m.def("open", &from_file, "path"_a, "level"_a, "threads"_a, "memory"_a);
  m.def("from_bytes", &from_bytes, "data"_a, "level"_a, "threads"_a, "memory"_a);
  m.def("kernels", &kernels);
  m.def("resize", &resize_into, "image"_a, "height"_a, "width"_a, "top"_a, "left"_a, "interpolation"_a, "result"_a);
  m.def("peak", [](const std::string& precision, int threads, const std::string& level, double seconds, int repeats) {
    const Kernels& kernels = find_kernels(level, precision_of(precision));
    WithoutGil without;
    return peak(kernels, threads, seconds, repeats);
  }, "precision"_a, "threads"_a, "level"_a, "seconds"_a, "repeats"_a);
  bind_access(m);
  bind_tanh_gelu(m);
}
