// What the bindings share: kinds of arrays, and the check of their shapes.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>

namespace nb = nanobind;
using namespace nb::literals;

namespace {

template <class T, int dims>
using Array = nb::ndarray<T, nb::ndim<dims>, nb::c_contig, nb::device::cpu>;
template <class T>
using AnyArray = nb::ndarray<T, nb::c_contig, nb::device::cpu>;

inline void need(bool condition, const char* what) {
  if (!condition) throw std::invalid_argument(what);
}

}  // namespace

void bind_matrices(nb::module_& m);
void bind_attention(nb::module_& m);
void bind_recurrent(nb::module_& m);
void bind_quantize(nb::module_& m);
