// What recurrent layers share: where the runs of a micro-batch begin and end, and the kernels that
// look a few tokens back (convolution, token shift).
//
// Lanes are channels, and a run's tokens pass in order, one thread a channel: an element depends on
// its own run's tokens in their order, whatever else is in the call.
#pragma once
#include <algorithm>

#include "activations.hpp"
#include "elementwise.hpp"

namespace {

// Rows of a wider array: row t begins at data + t · stride.
struct Rows {
  const float* data = nullptr;
  int64_t stride = 0;
  const float* operator[](int64_t row) const { return data + row * stride; }
};

// Run r is rows order[starts[r]] … order[starts[r + 1] − 1]; its state comes from slot read[r] (-1:
// zeros) and goes to slot write[r], which no other run writes. Only run r + 1 may read it: then it
// goes on from r. firsts[i] is the first run of chain i of such runs, firsts[chains] is `count`.
struct Runs {
  const int32_t *order, *starts, *read, *write;
  int64_t count;
  const int64_t* firsts;
  int64_t chains;
  int64_t tokens() const { return count ? starts[count] : 0; }
};

constexpr int64_t ENOUGH = 5000;  // cycles, about, that are worth a thread's while

// Call f(run, first, last) on ranges of a run's `units` (vectors of channels, heads), each of which
// takes about `cycles` a token. One thread takes the runs of a chain in order: no unit sees
// another.
template <class Function>
void over_runs(ThreadPool& pool, const Runs& runs, int64_t units, int64_t cycles,
               const Function& f) {
  if (!runs.count || !units) return;
  const int64_t total = std::max<int64_t>(1, units * cycles * runs.tokens() / runs.chains);
  const int64_t wanted = std::clamp<int64_t>(total / ENOUGH, 1, units);
  const int64_t each = (units + wanted - 1) / wanted, parts = (units + each - 1) / each;
  pool.run(runs.chains * parts, [&](int piece, int) {
    const int64_t first = piece % parts * each, chain = piece / parts;
    for (int64_t run = runs.firsts[chain]; run < runs.firsts[chain + 1]; run++)
      f(run, first, std::min(units, first + each));
  });
}

// Where a run's own part (`rows` rows of n floats, `stride` apart) of its state is read: in its
// slot, or, for a run that begins from zeros, where it will be written.
inline const float* begin(const float* from, float* to, int64_t rows, int64_t stride, int64_t n) {
  if (from) return from;
  for (int64_t row = 0; row < rows; row++) memset(to + row * stride, 0, n * sizeof(float));
  return to;
}
// Slot `slot` of states of `size` floats; nullptr for -1.
inline const float* slot_of(const float* states, int64_t slot, int64_t size) {
  return slot < 0 ? nullptr : states + slot * size;
}

constexpr int64_t SPAN = 16 * LANES;  // channels: shorter pieces of rows are slow to come by
constexpr int64_t AHEAD = 4;  // tokens: rows are far apart, and no processor guesses the next one
inline void fetch(const float* p) { __builtin_prefetch(p); }

// y_t = bias + Σ_k weight[c][k] · x_{t − K + 1 + k}, through silu where asked for.
struct Convolution {
  Rows x;
  const float *weight, *bias;
  int64_t channels, taps;
  float* tails;  // [slots][taps − 1][channels]
  bool through_silu;
  float* out;
};

template <int TAPS>
void convolve(const Convolution& s, const Runs& runs, int64_t run, int64_t first, int64_t last) {
  const int64_t taps = TAPS ? TAPS : s.taps, past = taps - 1, n = last - first;
  const int64_t size = past * s.channels, start = runs.starts[run];
  const int64_t length = runs.starts[run + 1] - start;
  float* to = s.tails + runs.write[run] * size + first;
  const float* from = slot_of(s.tails, runs.read[run], size);
  from = begin(from ? from + first : nullptr, to, past, s.channels, n);
  auto input = [&](int64_t i) {  // the tail's rows, then the run's
    return i < past ? from + i * s.channels : s.x[runs.order[start + i - past]] + first;
  };
  const int64_t padded = (n + LANES - 1) / LANES * LANES;
  Buffer<float> weight(taps * padded);
  for (int64_t c = 0; c < n; c++)
    for (int64_t k = 0; k < taps; k++) weight.p[k * padded + c] = s.weight[(first + c) * taps + k];
  Buffer<const float*> rows(taps);
  for (int64_t t = 0; t < length; t++) {
    for (int64_t k = 0; k < taps; k++) rows.p[k] = input(t + k);
    const float* soon = input(std::min(t + AHEAD, length - 1) + past);
    float* out = s.out + runs.order[start + t] * s.channels + first;
    for (int64_t c = 0; c < n; c += LANES) {
      const int lanes = (int)std::min<int64_t>(LANES, n - c);
      fetch(soon + c);
      f32x16 y = s.bias ? take(s.bias + first + c, lanes) : f32x16::set(0);
      for (int64_t k = 0; k < taps; k++)
        y = fma(f32x16::load(weight.p + k * padded + c), take(rows.p[k] + c, lanes), y);
      put(out + c, lanes, s.through_silu ? silu(y) : y);
    }
  }
  for (int64_t i = 0; i < past; i++)
    memmove(to + i * s.channels, input(length + i), n * sizeof(float));
}

inline void causal_conv(ThreadPool& pool, const Convolution& s, const Runs& runs) {
  const int64_t spans = (s.channels + SPAN - 1) / SPAN, cycles = 10 * s.taps * SPAN / LANES;
  over_runs(pool, runs, spans, cycles, [&](int64_t run, int64_t first, int64_t last) {
    last = std::min(s.channels, last * SPAN);
    if (s.taps == 4)
      convolve<4>(s, runs, run, first * SPAN, last);
    else
      convolve<0>(s, runs, run, first * SPAN, last);
  });
}

// The row before each row of a run; tails [slots][n].
inline void token_shift(ThreadPool& pool, Rows x, int64_t n, float* tails, const Runs& runs,
                        float* out) {
  const int64_t spans = (n + SPAN - 1) / SPAN;
  over_runs(pool, runs, spans, SPAN / 4, [&](int64_t run, int64_t first, int64_t last) {
    first *= SPAN;
    const int64_t bytes = (std::min(n, last * SPAN) - first) * sizeof(float);
    const float* from = slot_of(tails, runs.read[run], n);
    const float* before = from ? from + first : nullptr;
    for (int64_t i = runs.starts[run]; i < runs.starts[run + 1]; i++) {
      float* to = out + runs.order[i] * n + first;
      if (before)
        memcpy(to, before, bytes);
      else
        memset(to, 0, bytes);
      before = x[runs.order[i]] + first;
    }
    memcpy(tails + runs.write[run] * n + first, before, bytes);
  });
}

// x + (shifted − x) · t; t has one value for every element of x, or `sets` rows of n: then there
// are as many results, one after the other.
inline void mix(ThreadPool& pool, const float* x, const float* shifted, const float* t,
                int64_t sets, int64_t rows, int64_t n, float* out) {
  const int64_t each = std::max<int64_t>(1, sets);
  in_parts(pool, rows, n ? PART / (n * each) : 1, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++)
      for (int64_t set = 0; set < each; set++) {
        const float *in = x + row * n, *before = shifted + row * n;
        const float* share = t + (sets ? set : row) * n;
        float* to = out + (set * rows + row) * n;
        along(in, n, [&](f32x16 v, int64_t i, int lanes) {
          put(to + i, lanes, fma(take(before + i, lanes) - v, take(share + i, lanes), v));
        });
      }
  });
}

}  // namespace
