// The Python face of quantising.
#include "binding.hpp"
#include "quantize.hpp"

namespace {

int64_t first_between_of(ThreadPool& pool, Array<const float, 2> values, int32_t low,
                         int32_t high) {
  nb::gil_scoped_release free_python;
  return first_between(pool, values.data(), values.size(), low, high);
}

void quantize_of(ThreadPool& pool, int type, Array<const float, 2> values,
                 std::optional<Array<const float, 1>> weights, Array<uint8_t, 2> out) {
  const int64_t rows = values.shape(0), columns = values.shape(1);
  need((int64_t)out.shape(0) == rows && (int64_t)out.shape(1) == quantized_bytes(type, columns),
       "quantize: no such type, or an output of another shape");
  need(!weights || (int64_t)weights->shape(0) == columns, "quantize: weights of other columns");
  nb::gil_scoped_release free_python;
  quantize(pool, type, values.data(), rows * columns, columns, weights ? weights->data() : nullptr,
           out.data());
}

}  // namespace

void bind_quantize(nb::module_& m) {
  m.def("first_between", &first_between_of);
  m.def("quantize", &quantize_of, "pool"_a, "type"_a, "values"_a, "weights"_a.none(), "out"_a);
}
