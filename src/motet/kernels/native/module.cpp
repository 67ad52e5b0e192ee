// The Python face of the kernels of one instruction set. Shapes are checked here, once.
#include "bind_attention.hpp"
#include "bind_experts.hpp"
#include "bind_quantize.hpp"
#include "bind_recurrent.hpp"
#include "binding.hpp"
#include "elementwise.hpp"
#include "head_linear.hpp"
#include "linear.hpp"

namespace {

// Rows [first, first + raw.shape(0)) of a matrix, from the file's bytes.
void pack(ThreadPool& pool, Matrix& w, Array<const uint8_t, 2> raw, int64_t first) {
  need(!w.read_only(), "weights that lie elsewhere are only read");
  need(first >= 0 && first + (int64_t)raw.shape(0) <= w.rows, "rows beyond the matrix");
  need((int64_t)raw.shape(1) == w.row_bytes(), "a row has another size than its type says");
  const int64_t rows = raw.shape(0), strips = (rows + STRIP - 1) / STRIP;
  pool.run(strips, [&](int s, int) {
    for (int64_t row = s * STRIP; row < std::min<int64_t>(rows, (s + 1) * STRIP); row++)
      w.pack_row(raw.data() + row * raw.shape(1), first + row);
  });
}

nb::ndarray<nb::numpy, const uint8_t, nb::ndim<1>> packed_of(const Matrix& w) {
  return {w.data, {(size_t)w.bytes}, nb::handle()};
}

void linear_of(ThreadPool& pool, Array<const float, 2> x, std::vector<const Matrix*> weights,
               std::vector<std::optional<Array<const float, 1>>> biases,
               std::vector<Array<float, 2>> outputs) {
  need(weights.size() == outputs.size(), "a matrix without an output");
  need(biases.empty() || biases.size() == weights.size(), "a matrix without a bias");
  std::vector<float*> out;
  std::vector<const float*> added;
  for (size_t i = 0; i < weights.size(); i++) {
    need(weights[i] && weights[i]->columns == (int64_t)x.shape(1),
         "x has another width than the matrix");
    need(outputs[i].shape(0) == x.shape(0) && (int64_t)outputs[i].shape(1) == weights[i]->rows,
         "an output of another shape");
    out.push_back(outputs[i].data());
    if (biases.empty()) continue;
    need(!biases[i] || (int64_t)biases[i]->shape(0) == weights[i]->rows, "a bias of another size");
    added.push_back(biases[i] ? biases[i]->data() : nullptr);
  }
  nb::gil_scoped_release free_python;
  linear(pool, x.data(), x.shape(0), x.shape(1), weights, out, added);
}

using WideHeads = nb::ndarray<const float, nb::ndim<3>, nb::device::cpu>;

Heads heads_of(const WideHeads& x) {
  need(x.shape(2) < 2 || !x.size() || x.stride(2) == 1, "a head's numbers must follow each other");
  return {x.data(), x.stride(0), x.stride(1)};
}

void head_linear_of(ThreadPool& pool, WideHeads x, std::vector<const Matrix*> weights,
                    std::optional<WideHeads> before, Array<float, 3> out) {
  const int64_t rows = x.shape(0), first = before ? before->shape(2) : 0;
  need(!weights.empty() && x.shape(1) == weights.size(), "a matrix for each head is needed");
  for (const Matrix* w : weights)
    need(w && w->columns == (int64_t)x.shape(2) && w->rows == weights[0]->rows &&
             w->columns == weights[0]->columns,
         "heads have another width than their matrices");
  need(!before || ((int64_t)before->shape(0) == rows && before->shape(1) == weights.size()),
       "what comes before is of other heads");
  need((int64_t)out.shape(0) == rows && out.shape(1) == weights.size() &&
           (int64_t)out.shape(2) == first + weights[0]->rows,
       "an output of another shape");
  const Heads own = heads_of(x), other = before ? heads_of(*before) : Heads{};
  nb::gil_scoped_release free_python;
  head_linear(pool, own, rows, weights, other, first, out.data());
}

void embedding(ThreadPool& pool, const Matrix& w, Array<const int32_t, 1> ids,
               Array<float, 2> out) {
  need(out.shape(0) == ids.shape(0) && (int64_t)out.shape(1) == w.columns,
       "an output of another shape");
  for (size_t i = 0; i < ids.shape(0); i++)
    need(ids.data()[i] >= 0 && ids.data()[i] < w.rows, "an id beyond the matrix");
  nb::gil_scoped_release free_python;
  in_parts(pool, ids.shape(0), 16, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i++) unpack_row(w, ids.data()[i], out.data() + i * w.columns);
  });
}

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
  need(activation >= SILU && activation <= RELU, "no such activation");
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

// For each load and height of tiles: strips, bytes of prefetch and the level it is for.
using Walks = std::array<std::array<std::array<int, 3>, HEIGHTS>, LOADS>;

void tuning_of(Tuning* out, const Walks& walks, int chains, bool dots) {
  need(chains == 1 || chains == 2, "no such tuning");
  need(!dots || processor_has_dots(), "no such tuning: this processor has no BF16 products");
  Tuning t{{}, chains, dots};
  for (int load = 0; load < LOADS; load++)
    for (int height = 0; height < HEIGHTS; height++) {
      const auto [strips, bytes, level] = walks[load][height];
      need((strips == 1 || strips == 2 || strips == 4 || strips == 8) && bytes >= 0 &&
               (level == 1 || level == 2),
           "no such tuning");
      t.walks[load][height] = {strips, {bytes, level}};
    }
  new (out) Tuning(t);
}

Walks walks_of(const Tuning& t) {
  Walks out;
  for (int load = 0; load < LOADS; load++)
    for (int height = 0; height < HEIGHTS; height++) {
      const Walk& walk = t.walks[load][height];
      out[load][height] = {walk.strips, walk.ahead.bytes, walk.ahead.level};
    }
  return out;
}

}  // namespace

NB_MODULE(MOTET_MODULE, m) {
  // At the end of a fork, and of a process whose threads are at work, objects are left: no fault.
  nb::set_leak_warnings(false);
  nb::class_<ThreadPool>(m, "ThreadPool")
      .def(nb::init<int, std::vector<int>>(), "threads"_a, "processors"_a = std::vector<int>{})
      .def_prop_ro("threads", &ThreadPool::threads);
  nb::class_<Arena>(m, "Arena").def(nb::init<>());
  nb::class_<Matrix>(m, "Matrix")
      .def(nb::init<Arena&, int, int64_t, int64_t>())
      .def(
          "__init__",
          [](Matrix* w, Array<const uint8_t, 1> packed, int type, int64_t rows, int64_t columns) {
            new (w) Matrix(packed.data(), packed.size(), type, rows, columns);
          },
          nb::keep_alive<1, 2>())
      .def_ro("type", &Matrix::type)
      .def_ro("rows", &Matrix::rows)
      .def_ro("columns", &Matrix::columns)
      .def_ro("nbytes", &Matrix::bytes)
      .def_prop_ro("packed", &packed_of, nb::rv_policy::reference_internal);
  // How to go through memory: see tuning.hpp. For benchmarks and tests.
  nb::class_<Tuning>(m, "Tuning")
      .def("__init__", &tuning_of, "walks"_a, "chains"_a, "dots"_a)
      .def_prop_ro("walks", &walks_of)
      .def_ro("chains", &Tuning::chains)
      .def_ro("dots", &Tuning::dots);
  m.def("tuning", [] { return tuning(); });
  m.def("set_tuning", [](const Tuning& t) { tuning() = t; });
  m.def("pack", &pack, nb::call_guard<nb::gil_scoped_release>());
  m.def("linear", &linear_of);
  m.def("head_linear", &head_linear_of, "pool"_a, "x"_a, "weights"_a, "before"_a.none(), "out"_a);
  m.def("embedding", &embedding);
  m.def("rms_norm", &rms_norm_of);
  m.def("layer_norm", &layer_norm_of, "pool"_a, "x"_a, "weight"_a, "bias"_a.none(), "eps"_a,
        "plus"_a.none(), "out"_a);
  m.def("activate", &activate_of, "pool"_a, "activation"_a, "x"_a, "up"_a.none(), "out"_a);
  m.def("softcap", &softcap_of);
  m.def("softmax", &softmax_of);
  m.def("read_all", &read_all);
  bind_attention(m);
  bind_recurrent(m);
  bind_experts(m);
  bind_quantize(m);
#if MOTET_TILES
  m.def("tiles_allowed", &tiles_allowed);
#endif
}
