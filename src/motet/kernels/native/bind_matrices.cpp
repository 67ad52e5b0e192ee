// The Python face of matrices, of experts made of them, and of how they are walked through.
#include "binding.hpp"
#include "experts.hpp"
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
    for (int64_t i = first; i < last; i++) {
      float* row = out.data() + i * w.columns;
      unpack_row(w, ids.data()[i], row);
      for (int64_t k = 0; k < w.columns; k++) row[k] *= w.scale;
    }
  });
}

void route_of(ThreadPool& pool, Array<const float, 2> logits,
              std::optional<Array<const float, 1>> bias, int scores, int64_t groups,
              int64_t groups_used, int group_best, int weighting, float epsilon, float scale,
              Array<int32_t, 2> ids, Array<float, 2> weights) {
  const int64_t rows = logits.shape(0), experts = logits.shape(1), k = ids.shape(1);
  need(scores >= SOFTMAX && scores <= LOGITS && weighting >= AS_SCORED &&
           weighting <= SOFTMAX_OF_CHOSEN && (group_best == 1 || group_best == 2) && groups > 0 &&
           groups_used > 0 && groups_used <= groups && experts % groups == 0 &&
           group_best <= experts / groups,
       "route: no such routing");
  need(k > 0 && k <= experts / groups * groups_used,
       "route: more experts to choose than there are");
  need(!bias || (int64_t)bias->shape(0) == experts, "route: a bias of other experts");
  need((int64_t)ids.shape(0) == rows && (int64_t)weights.shape(0) == rows &&
           (int64_t)weights.shape(1) == k,
       "route: shapes differ");
  nb::gil_scoped_release free_python;
  const Routing routing{scores, groups, groups_used, group_best, weighting, epsilon, scale};
  route(pool, routing, logits.data(), bias ? bias->data() : nullptr, rows, experts, k, ids.data(),
        weights.data());
}

void experts_of(ThreadPool& pool, Array<const float, 2> x, Array<const int32_t, 2> ids,
                Array<const float, 2> weights, std::optional<std::vector<const Matrix*>> gate,
                std::vector<const Matrix*> up, std::vector<const Matrix*> down, int activation,
                std::vector<Array<const float, 2>> biases, Array<float, 2> out) {
  need(!up.empty() && (!gate || gate->size() == up.size()) && up.size() == down.size(),
       "experts: a matrix is missing");
  const int64_t rows = x.shape(0), k = ids.shape(1), d = x.shape(1), width = out.shape(1);
  need((int64_t)ids.shape(0) == rows && (int64_t)weights.shape(0) == rows &&
           (int64_t)weights.shape(1) == k && (int64_t)out.shape(0) == rows,
       "experts: token counts differ");
  need(biases.empty() || (gate && biases.size() == 3), "experts: biases of some products alone");
  std::vector<Expert> experts;
  for (size_t e = 0; e < up.size(); e++) {
    const Matrix* gates = gate ? (*gate)[e] : up[e];
    need(gates && up[e] && down[e], "experts: a matrix is missing");
    need(gates->columns == d && up[e]->columns == d && up[e]->rows == gates->rows &&
             down[e]->columns == gates->rows && up[e]->rows == up[0]->rows &&
             down[e]->rows == width,
         "experts: matrices do not fit");
    experts.push_back({gate ? gates : nullptr, up[e], down[e]});
    if (biases.empty()) continue;
    const float** own[] = {&experts[e].gate_bias, &experts[e].up_bias, &experts[e].down_bias};
    const Matrix* matrices[] = {gates, up[e], down[e]};
    for (int i = 0; i < 3; i++) {
      need(biases[i].shape(0) == up.size() && (int64_t)biases[i].shape(1) == matrices[i]->rows,
           "experts: biases do not fit");
      *own[i] = biases[i].data() + e * matrices[i]->rows;
    }
  }
  for (size_t i = 0; i < ids.size(); i++)
    need(ids.data()[i] >= 0 && ids.data()[i] < (int64_t)experts.size(),
         "experts: an id beyond the last");
  need(activation >= SILU && activation <= (gate ? CLAMPED_SWIGLU : RELU), "no such activation");
  nb::gil_scoped_release free_python;
  run_experts(pool, x.data(), rows, ids.data(), weights.data(), k, experts, activation, out.data());
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

void bind_matrices(nb::module_& m) {
  nb::class_<Arena>(m, "Arena").def(nb::init<>());
  nb::class_<Matrix>(m, "Matrix")
      .def(nb::init<Arena&, int, int64_t, int64_t, float>(), "arena"_a, "type"_a, "rows"_a,
           "columns"_a, "scale"_a = 1.0f)
      .def(
          "__init__",
          [](Matrix* w, Array<const uint8_t, 1> packed, int type, int64_t rows, int64_t columns,
             float scale) {
            new (w) Matrix(packed.data(), packed.size(), type, rows, columns, scale);
          },
          "packed"_a, "type"_a, "rows"_a, "columns"_a, "scale"_a = 1.0f, nb::keep_alive<1, 2>())
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
  m.def("default_tuning", &tuning_of_processor);
  m.def("tuning", [] { return tuning(); });
  m.def("set_tuning", [](const Tuning& t) { tuning() = t; });
  m.def("pack", &pack, nb::call_guard<nb::gil_scoped_release>());
  m.def("linear", &linear_of);
  m.def("head_linear", &head_linear_of, "pool"_a, "x"_a, "weights"_a, "before"_a.none(), "out"_a);
  m.def("embedding", &embedding);
  m.def("route", &route_of, "pool"_a, "logits"_a, "bias"_a.none(), "scores"_a, "groups"_a,
        "groups_used"_a, "group_best"_a, "weighting"_a, "epsilon"_a, "scale"_a, "ids"_a,
        "weights"_a);
  m.def("experts", &experts_of, "pool"_a, "x"_a, "ids"_a, "weights"_a, "gate"_a.none(), "up"_a,
        "down"_a, "activation"_a, "biases"_a, "out"_a);
#if MOTET_TILES
  m.def("tiles_allowed", &tiles_allowed);
#endif
}
