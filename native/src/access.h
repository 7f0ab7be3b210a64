// Single kernels for the tests: numpy arrays in, numpy arrays out, packed and unpacked in between.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <initializer_list>

namespace allmlp {

using FloatArray = nanobind::ndarray<float, nanobind::numpy, nanobind::c_contig, nanobind::device::cpu>;

FloatArray new_floats(std::initializer_list<size_t> shape);
void bind_access(nanobind::module_& module);

}  // namespace allmlp
