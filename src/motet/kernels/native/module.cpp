// A module of kernels for one instruction set. Each room has a source of its own (bind_*.cpp),
// which checks shapes once; here stand the pool and what works element by element.
#include "binding.hpp"
#include "buffers.hpp"
#include "elementwise.hpp"

namespace {

// Rows of a norm's weight: groups of x take turns with them. 0 if the shapes do not fit.
int64_t norm_groups(const AnyArray<const float>& x, const AnyArray<const float>& weight) {
  const size_t dims = weight.ndim();
  if (dims < 1 || dims > 2 || x.ndim() < dims || !weight.size()) return 0;
  for (size_t i = 1; i <= dims; i++)
    if (x.shape(x.ndim() - i) != weight.shape(dims - i)) return 0;
  return dims == 2 ? weight.shape(0) : 1;
}

void rms_norm_of(ThreadPool& pool, AnyArray<const float> x, AnyArray<const float> weight, float eps,
                 AnyArray<float> out) {
  const int64_t groups = norm_groups(x, weight);
  need(groups && out.size() == x.size(), "norm: shapes differ");
  const int64_t n = weight.size() / groups;
  nb::gil_scoped_release free_python;
  rms_norm(pool, x.data(), weight.data(), groups, eps, x.size() / n, n, out.data());
}

void layer_norm_of(ThreadPool& pool, AnyArray<const float> x, AnyArray<const float> weight,
                   std::optional<AnyArray<const float>> bias, float eps,
                   std::optional<AnyArray<const float>> plus, AnyArray<float> out) {
  const int64_t groups = norm_groups(x, weight);
  need(groups && out.size() == x.size() && (!plus || plus->size() == x.size()) &&
           (!bias || (bias->size() == weight.size() && norm_groups(x, *bias) == groups)),
       "norm: shapes differ");
  const int64_t n = weight.size() / groups;
  nb::gil_scoped_release free_python;
  layer_norm(pool, x.data(), plus ? plus->data() : nullptr, weight.data(),
             bias ? bias->data() : nullptr, groups, eps, x.size() / n, n, out.data());
}

void activate_of(ThreadPool& pool, int activation, AnyArray<const float> x,
                 std::optional<AnyArray<const float>> up, AnyArray<float> out) {
  need(activation >= SILU && activation <= (up ? CLAMPED_SWIGLU : RELU), "no such activation");
  need(out.size() == x.size() && (!up || up->size() == x.size()), "activation: shapes differ");
  nb::gil_scoped_release free_python;
  activate(pool, activation, x.data(), up ? up->data() : nullptr, x.size(), out.data());
}

void softcap_of(ThreadPool& pool, AnyArray<const float> x, float cap, AnyArray<float> out) {
  need(out.size() == x.size(), "softcap: shapes differ");
  nb::gil_scoped_release free_python;
  softcap(pool, x.data(), cap, x.size(), out.data());
}

void softmax_of(ThreadPool& pool, Array<const float, 2> x, Array<float, 2> out) {
  need(out.shape(0) == x.shape(0) && out.shape(1) == x.shape(1), "softmax: shapes differ");
  nb::gil_scoped_release free_python;
  softmax(pool, x.data(), x.shape(0), x.shape(1), out.data());
}

// Not initialised; the memory is kept when nobody holds the array any more.
nb::ndarray<nb::numpy, float> floats_of(std::vector<size_t> shape) {
  size_t count = 1;
  for (size_t n : shape) need(!__builtin_mul_overflow(count, n, &count), "an array too large");
  auto array = std::make_unique<Buffer<float>>(count);
  float* data = array->p;
  nb::capsule owner(array.get(), [](void* p) noexcept { delete (Buffer<float>*)p; });
  array.release();
  return {data, shape.size(), shape.data(), owner};
}

// Read an array once with every thread: what memory can deliver.
uint64_t read_all(ThreadPool& pool, AnyArray<const uint8_t> bytes) {
  constexpr int64_t part = 1 << 20;
  std::atomic<uint64_t> all{0};
  const uint8_t* data = bytes.data();
  nb::gil_scoped_release free_python;
  pool.run((int64_t)bytes.size() / part, [&](int piece, int) {
    i32x16 a = set_int(0), b = a, c = a, d = a;
    for (const uint8_t* p = data + piece * part; p < data + (piece + 1) * part; p += 256) {
      a = a + load_int(p);
      b = b + load_int(p + 64);
      c = c + load_int(p + 128);
      d = d + load_int(p + 192);
    }
    int32_t lanes[LANES];
    store_int(lanes, (a + b) + (c + d));
    all += (uint64_t)lanes[0];
  });
  return all.load();
}

}  // namespace

NB_MODULE(MOTET_MODULE, m) {
  // At the end of a fork, and of a process whose threads are at work, objects are left: no fault.
  nb::set_leak_warnings(false);
  nb::class_<ThreadPool>(m, "ThreadPool")
      .def(nb::init<int, std::vector<int>>(), "threads"_a, "processors"_a = std::vector<int>{})
      .def_prop_ro("threads", &ThreadPool::threads);
  m.def("rms_norm", &rms_norm_of);
  m.def("layer_norm", &layer_norm_of, "pool"_a, "x"_a, "weight"_a, "bias"_a.none(), "eps"_a,
        "plus"_a.none(), "out"_a);
  m.def("activate", &activate_of, "pool"_a, "activation"_a, "x"_a, "up"_a.none(), "out"_a);
  m.def("softcap", &softcap_of);
  m.def("softmax", &softmax_of);
  m.def("floats", &floats_of);
  m.def("read_all", &read_all);
  bind_matrices(m);
  bind_attention(m);
  bind_recurrent(m);
  bind_quantize(m);
}
