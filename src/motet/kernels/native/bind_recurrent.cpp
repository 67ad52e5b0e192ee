// The Python face of the recurrent kernels. Shapes and slots are checked here, once.
#include "binding.hpp"
#include "delta_rule.hpp"
#include "pooling.hpp"
#include "scans.hpp"
#include "wkv7.hpp"

namespace {

using Vector = Array<const float, 1>;
// Rows that may be columns of a wider array.
using Wide = nb::ndarray<const float, nb::ndim<2>, nb::device::cpu>;
// States are written to: they are never converted, which would be a copy.
using States = nb::ndarray<nb::device::cpu>;

inline Rows rows_of(const Wide& x, int64_t rows, int64_t columns, const char* what) {
  need((int64_t)x.shape(0) == rows && (int64_t)x.shape(1) == columns, what);
  need(columns < 2 || !rows || x.stride(1) == 1, "the values of a row must follow each other");
  return {x.data(), x.stride(0)};
}

inline float* states_of(const States& s, std::initializer_list<int64_t> shape, const char* what) {
  need(s.dtype() == nb::dtype<float>() && s.ndim() == shape.size() + 1, what);
  int64_t step = 1;
  for (size_t i = shape.size(); i > 0; i--) {
    const int64_t n = shape.begin()[i - 1];
    need((int64_t)s.shape(i) == n && (n < 2 || !s.size() || s.stride(i) == step), what);
    step *= n;
  }
  need(s.shape(0) < 2 || !s.size() || s.stride(0) == step, what);
  return (float*)s.data();
}

// A Runs object of Python: its arrays, checked against each other, the rows and the slots.
class RunsArgument {
 public:
  RunsArgument(nb::handle runs, int64_t rows, int64_t slots)
      : order_(nb::cast<Numbers>(runs.attr("order"))),
        starts_(nb::cast<Numbers>(runs.attr("starts"))),
        read_(nb::cast<Numbers>(runs.attr("read"))),
        write_(nb::cast<Numbers>(runs.attr("write"))) {
    const int64_t count = read_.shape(0);
    need((int64_t)write_.shape(0) == count && (int64_t)starts_.shape(0) == count + 1 &&
             (int64_t)order_.shape(0) == rows && starts_.data()[0] == 0 &&
             starts_.data()[count] == rows,
         "runs: counts differ");
    std::vector<bool> seen(rows);
    for (int64_t i = 0; i < rows; i++) {
      const int32_t row = order_.data()[i];
      need(row >= 0 && row < rows && !seen[row], "runs: order is not every row once");
      seen[row] = true;
    }
    for (int64_t r = 0; r < count; r++) {
      need(starts_.data()[r] < starts_.data()[r + 1], "runs: an empty run");
      need(read_.data()[r] >= -1 && read_.data()[r] < slots && write_.data()[r] >= 0 &&
               write_.data()[r] < slots,
           "runs: a slot beyond the states");
    }
    for (int64_t r = 0; r < count; r++)
      if (!goes_on(r)) firsts_.push_back(r);
    firsts_.push_back(count);
    if (count > 1) check_owners();
  }
  Runs view() const {
    return {order_.data(),
            starts_.data(),
            read_.data(),
            write_.data(),
            (int64_t)read_.shape(0),
            firsts_.data(),
            (int64_t)firsts_.size() - 1};
  }

 private:
  // Whether run r begins from what the one before it leaves.
  bool goes_on(int64_t r) const { return r > 0 && read_.data()[r] == write_.data()[r - 1]; }

  // No slot is written by two runs, or read by one and written by another than the one before it.
  void check_owners() const {
    std::vector<std::pair<int32_t, int64_t>> owners;
    for (int64_t r = 0; r < (int64_t)write_.shape(0); r++) owners.emplace_back(write_.data()[r], r);
    std::sort(owners.begin(), owners.end());
    for (size_t i = 1; i < owners.size(); i++)
      need(owners[i].first != owners[i - 1].first, "runs: two runs write one slot");
    for (int64_t r = 0; r < (int64_t)read_.shape(0); r++) {
      const int32_t slot = read_.data()[r];
      const auto owner =
          std::lower_bound(owners.begin(), owners.end(), std::pair(slot, int64_t{0}));
      need(owner == owners.end() || owner->first != slot || owner->second == r || goes_on(r),
           "runs: a run reads what another writes");
    }
  }

  using Numbers = Array<const int32_t, 1>;
  Numbers order_, starts_, read_, write_;
  std::vector<int64_t> firsts_;
};

void causal_conv_of(ThreadPool& pool, Wide x, Array<const float, 2> weight,
                    std::optional<Vector> bias, States tails, nb::handle runs, bool through_silu,
                    Array<float, 2> out) {
  const int64_t rows = out.shape(0), channels = out.shape(1), taps = weight.shape(1);
  const char* what = "causal_conv: shapes differ";
  need((int64_t)weight.shape(0) == channels && taps > 0 &&
           (!bias || (int64_t)bias->shape(0) == channels),
       what);
  const Convolution s{rows_of(x, rows, channels, what),
                      weight.data(),
                      bias ? bias->data() : nullptr,
                      channels,
                      taps,
                      states_of(tails, {taps - 1, channels}, what),
                      through_silu,
                      out.data()};
  const RunsArgument checked(runs, rows, tails.shape(0));
  nb::gil_scoped_release free_python;
  causal_conv(pool, s, checked.view());
}

void selective_scan_of(ThreadPool& pool, Wide x, Wide dt, Vector dt_bias, Array<const float, 2> a,
                       Wide b, Wide c, Vector d, States states, nb::handle runs,
                       std::optional<Wide> z, Array<float, 2> out) {
  const int64_t rows = out.shape(0), channels = out.shape(1), n = a.shape(0);
  const char* what = "selective_scan: shapes differ";
  need((int64_t)a.shape(1) == channels && (int64_t)dt_bias.shape(0) == channels &&
           (int64_t)d.shape(0) == channels,
       what);
  const SelectiveScan s{rows_of(x, rows, channels, what),
                        rows_of(dt, rows, channels, what),
                        rows_of(b, rows, n, what),
                        rows_of(c, rows, n, what),
                        z ? rows_of(*z, rows, channels, what) : Rows{},
                        dt_bias.data(),
                        a.data(),
                        d.data(),
                        channels,
                        n,
                        states_of(states, {n, channels}, what),
                        out.data()};
  const RunsArgument checked(runs, rows, states.shape(0));
  nb::gil_scoped_release free_python;
  selective_scan(pool, s, checked.view());
}

void mamba2_scan_of(ThreadPool& pool, Wide x, Wide dt, Vector dt_bias, Vector a, Wide b, Wide c,
                    Vector d, States states, nb::handle runs, Array<float, 2> out) {
  const char* what = "mamba2_scan: shapes differ";
  need(states.ndim() == 4, what);
  const int64_t heads = states.shape(1), n = states.shape(2), width = states.shape(3);
  const int64_t rows = out.shape(0), groups = n ? b.shape(1) / n : 0;
  need(heads > 0 && groups > 0 && heads % groups == 0 && (int64_t)out.shape(1) == heads * width &&
           (int64_t)dt_bias.shape(0) == heads && (int64_t)a.shape(0) == heads &&
           (int64_t)d.shape(0) == heads,
       what);
  const HeadScan s{rows_of(x, rows, heads * width, what),
                   rows_of(dt, rows, heads, what),
                   rows_of(b, rows, groups * n, what),
                   rows_of(c, rows, groups * n, what),
                   dt_bias.data(),
                   a.data(),
                   d.data(),
                   heads,
                   groups,
                   n,
                   width,
                   states_of(states, {heads, n, width}, what),
                   out.data()};
  const RunsArgument checked(runs, rows, states.shape(0));
  nb::gil_scoped_release free_python;
  mamba2_scan(pool, s, checked.view());
}

void delta_rule_of(ThreadPool& pool, Wide q, Wide k, Wide v, Wide beta, Wide dt, Vector dt_bias,
                   Vector a, States states, nb::handle runs, float eps, bool tiled,
                   Array<float, 2> out) {
  const char* what = "delta_rule: shapes differ";
  need(states.ndim() == 4, what);
  const int64_t heads = states.shape(1), n = states.shape(2), width = states.shape(3);
  const int64_t rows = out.shape(0), groups = n ? q.shape(1) / n : 0, rates = dt_bias.shape(0);
  need(heads > 0 && groups > 0 && heads % groups == 0 && (int64_t)out.shape(1) == heads * width &&
           (int64_t)a.shape(0) == heads && (rates == heads || rates == heads * n),
       what);
  const DeltaRule s{rows_of(q, rows, groups * n, what),
                    rows_of(k, rows, groups * n, what),
                    rows_of(v, rows, heads * width, what),
                    rows_of(beta, rows, heads, what),
                    rows_of(dt, rows, rates, what),
                    dt_bias.data(),
                    a.data(),
                    heads,
                    groups,
                    n,
                    width,
                    rates != heads,
                    tiled,
                    eps,
                    states_of(states, {heads, n, width}, what),
                    out.data()};
  const RunsArgument checked(runs, rows, states.shape(0));
  nb::gil_scoped_release free_python;
  delta_rule(pool, s, checked.view());
}

void wkv6_of(ThreadPool& pool, Wide r, Wide k, Wide v, Wide w, Array<const float, 2> u,
             States states, nb::handle runs, Array<float, 2> out) {
  const char* what = "wkv6: shapes differ";
  const int64_t heads = u.shape(0), size = u.shape(1), rows = out.shape(0), d = heads * size;
  need((int64_t)out.shape(1) == d, what);
  const Wkv6 s{rows_of(r, rows, d, what),
               rows_of(k, rows, d, what),
               rows_of(v, rows, d, what),
               rows_of(w, rows, d, what),
               u.data(),
               heads,
               size,
               states_of(states, {heads, size, size}, what),
               out.data()};
  const RunsArgument checked(runs, rows, states.shape(0));
  nb::gil_scoped_release free_python;
  wkv6(pool, s, checked.view());
}

// Of a Wkv7Heads object of Python: its arrays, each [heads][size].
void wkv7_of(ThreadPool& pool, Wide r, Wide w, Wide k, Wide v, Wide a, nb::handle heads_of,
             float eps, States states, nb::handle runs, Array<float, 2> out) {
  const char* what = "wkv7: shapes differ";
  using Channels = Array<const float, 2>;
  std::vector<Channels> own;
  for (const char* name : {"k_k", "k_a", "r_k", "norm", "norm_bias"})
    own.push_back(nb::cast<Channels>(heads_of.attr(name)));
  const int64_t heads = own[0].shape(0), size = own[0].shape(1), d = heads * size;
  const int64_t rows = out.shape(0);
  for (const Channels& each : own)
    need((int64_t)each.shape(0) == heads && (int64_t)each.shape(1) == size, what);
  need((int64_t)out.shape(1) == d, what);
  const Wkv7 s{rows_of(r, rows, d, what),
               rows_of(w, rows, d, what),
               rows_of(k, rows, d, what),
               rows_of(v, rows, d, what),
               rows_of(a, rows, d, what),
               own[0].data(),
               own[1].data(),
               own[2].data(),
               own[3].data(),
               own[4].data(),
               eps,
               heads,
               size,
               states_of(states, {heads, size, size}, what),
               out.data()};
  const RunsArgument checked(runs, rows, states.shape(0));
  nb::gil_scoped_release free_python;
  wkv7(pool, s, checked.view());
}

void sum_rows_of(ThreadPool& pool, Array<const float, 2> x, States states, nb::handle runs,
                 Array<float, 2> out) {
  const char* what = "sum_rows: shapes differ";
  const int64_t rows = x.shape(0), n = x.shape(1);
  float* sums = states_of(states, {2, n}, what);
  const RunsArgument checked(runs, rows, states.shape(0));
  need((int64_t)out.shape(0) == checked.view().count && (int64_t)out.shape(1) == n, what);
  nb::gil_scoped_release free_python;
  sum_rows(pool, x.data(), n, sums, checked.view(), out.data());
}

void token_shift_of(ThreadPool& pool, Wide x, States tails, nb::handle runs, Array<float, 2> out) {
  const char* what = "token_shift: shapes differ";
  const int64_t rows = out.shape(0), n = out.shape(1);
  const Rows from = rows_of(x, rows, n, what);
  float* kept = states_of(tails, {n}, what);
  const RunsArgument checked(runs, rows, tails.shape(0));
  nb::gil_scoped_release free_python;
  token_shift(pool, from, n, kept, checked.view(), out.data());
}

void mix_of(ThreadPool& pool, Array<const float, 2> x, Array<const float, 2> shifted,
            AnyArray<const float> t, AnyArray<float> out) {
  const int64_t rows = x.shape(0), n = x.shape(1);
  const size_t dims = t.ndim();
  const int64_t sets = dims == 1 ? 1 : dims == 3 ? t.shape(0) : 0;
  need(shifted.size() == x.size() && (int64_t)shifted.shape(1) == n && dims >= 1 && dims <= 3 &&
           (int64_t)t.shape(dims - 1) == n && (dims != 2 || (int64_t)t.shape(0) == rows) &&
           (dims != 3 || (t.shape(1) == 1 && sets)) &&
           out.size() == x.size() * std::max<int64_t>(1, sets),
       "mix: shapes differ");
  nb::gil_scoped_release free_python;
  mix(pool, x.data(), shifted.data(), t.data(), sets, rows, n, out.data());
}

}  // namespace

void bind_recurrent(nb::module_& m) {
  m.def("causal_conv", &causal_conv_of, "pool"_a, "x"_a, "weight"_a, "bias"_a.none(), "tails"_a,
        "runs"_a, "through_silu"_a, "out"_a);
  m.def("selective_scan", &selective_scan_of, "pool"_a, "x"_a, "dt"_a, "dt_bias"_a, "a"_a, "b"_a,
        "c"_a, "d"_a, "states"_a, "runs"_a, "z"_a.none(), "out"_a);
  m.def("mamba2_scan", &mamba2_scan_of);
  m.def("delta_rule", &delta_rule_of);
  m.def("sum_rows", &sum_rows_of);
  m.def("wkv6", &wkv6_of);
  m.def("wkv7", &wkv7_of);
  m.def("token_shift", &token_shift_of);
  m.def("mix", &mix_of);
}
