// Norms and activations. A row, or an element, is computed alone; tails take the vector path.
#pragma once
#include <cmath>

#include "simd.hpp"
#include "threads.hpp"

namespace {

// Call f(first, last) on parts of [0, count) that are worth a thread's while.
template <class Function>
void in_parts(ThreadPool& pool, int64_t count, int64_t part, const Function& f) {
  part = part < 1 ? 1 : part;
  pool.run((count + part - 1) / part, [&](int piece, int) {
    const int64_t first = piece * part;
    f(first, first + part < count ? first + part : count);
  });
}

constexpr int64_t PART = 16384;  // elements

// Call f(vector, place, lanes) along a row, the last vector filled up with zeros.
template <class Function>
inline void along(const float* x, int64_t n, const Function& f) {
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) f(f32x16::load(x + i), i, LANES);
  if (i < n) f(load_part(x + i, (int)(n - i)), i, (int)(n - i));
}
inline f32x16 take(const float* p, int lanes) {
  return lanes == LANES ? f32x16::load(p) : load_part(p, lanes);
}
inline void put(float* p, int lanes, f32x16 v) {
  if (lanes == LANES)
    v.store(p);
  else
    store_part(p, lanes, v);
}

// Row i of x takes row i % groups of the weight.
inline void rms_norm(ThreadPool& pool, const float* x, const float* weight, int64_t groups,
                     float eps, int64_t rows, int64_t n, float* y) {
  in_parts(pool, rows, PART / n, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++) {
      const float *in = x + row * n, *scales = weight + row % groups * n;
      f32x16 squares = f32x16::set(0);
      along(in, n, [&](f32x16 v, int64_t, int) { squares = fma(v, v, squares); });
      const f32x16 scale = f32x16::set(1 / std::sqrt(sum(squares) / (float)n + eps));
      along(in, n, [&](f32x16 v, int64_t i, int lanes) {
        put(y + row * n + i, lanes, v * scale * take(scales + i, lanes));
      });
    }
  });
}

// A row: (x − mean) / sqrt(variance + eps) · scales + bias, which may be absent; y may be x.
inline void layer_norm_row(const float* x, const float* scales, const float* bias, float eps,
                           int64_t n, float* y) {
  f32x16 total = f32x16::set(0), squares = f32x16::set(0);
  along(x, n, [&](f32x16 v, int64_t, int) { total = total + v; });
  const f32x16 mean = f32x16::set(sum(total) / (float)n);
  float centred[LANES];
  along(x, n, [&](f32x16 v, int64_t, int lanes) {
    const f32x16 c = v - mean;
    if (lanes == LANES) {
      squares = fma(c, c, squares);
    } else {
      c.store(centred);
      const f32x16 part = load_part(centred, lanes);
      squares = fma(part, part, squares);
    }
  });
  const f32x16 scale = f32x16::set(1 / std::sqrt(sum(squares) / (float)n + eps));
  along(x, n, [&](f32x16 v, int64_t i, int lanes) {
    f32x16 out = (v - mean) * scale * take(scales + i, lanes);
    if (bias) out = out + take(bias + i, lanes);
    put(y + i, lanes, out);
  });
}

// Of x, or of x + plus, which y holds meanwhile. Row i takes row i % groups of weight and bias.
inline void layer_norm(ThreadPool& pool, const float* x, const float* plus, const float* weight,
                       const float* bias, int64_t groups, float eps, int64_t rows, int64_t n,
                       float* y) {
  in_parts(pool, rows, PART / n, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++) {
      const float* in = x + row * n;
      float* out = y + row * n;
      if (plus) {
        along(in, n, [&](f32x16 v, int64_t i, int lanes) {
          put(out + i, lanes, v + take(plus + row * n + i, lanes));
        });
        in = out;
      }
      const int64_t group = row % groups * n;
      layer_norm_row(in, weight + group, bias ? bias + group : nullptr, eps, n, out);
    }
  });
}

enum Activation : int { SILU, GELU_TANH, GELU_ERF, SIGMOID, TANH, RELU2, RELU, CLAMPED_SWIGLU };

// x / (1 + e^-x)
inline f32x16 silu(f32x16 x) {
  const f32x16 one = f32x16::set(1.0f);
  return x / (one + exp(f32x16::set(0) - x));
}

// 0.5·x·(1 + tanh u) = x / (1 + e^-2u), u = sqrt(2/π)·(x + 0.044715·x³)
inline f32x16 gelu_tanh(f32x16 x) {
  const f32x16 inner = fma(f32x16::set(0.044715f) * x * x, x, x);
  const f32x16 one = f32x16::set(1.0f);
  return x / (one + exp(f32x16::set(-1.5957691216057308f) * inner));
}

// erf by Abramowitz and Stegun 7.1.26 (absolute error 1.5e-7), odd by the sign bit.
inline f32x16 gelu_erf(f32x16 x) {
  const f32x16 one = f32x16::set(1.0f);
  const f32x16 z = x * f32x16::set(0.70710678f);
  const f32x16 size = bit_and(z, as_float(set_int(0x7fffffff)));
  const f32x16 t = one / fma(size, f32x16::set(0.3275911f), one);
  f32x16 p = f32x16::set(1.061405429f);
  p = fma(p, t, f32x16::set(-1.453152027f));
  p = fma(p, t, f32x16::set(1.421413741f));
  p = fma(p, t, f32x16::set(-0.284496736f));
  p = fma(p, t, f32x16::set(0.254829592f));
  const f32x16 erf = one - p * t * exp(f32x16::set(0) - size * size);
  const f32x16 sign = bit_and(z, as_float(set_int((int32_t)0x80000000)));
  return f32x16::set(0.5f) * x * (one + bit_or(erf, sign));
}

// 1 / (1 + e^-x)
inline f32x16 sigmoid(f32x16 x) {
  const f32x16 one = f32x16::set(1.0f);
  return one / (one + exp(f32x16::set(0) - x));
}

inline f32x16 relu(f32x16 x) { return maximum(f32x16::set(0), x); }

inline f32x16 relu2(f32x16 x) {
  const f32x16 above = maximum(f32x16::set(0), x);
  return above * above;
}

// (u + 1)·g / (1 + e^-1.702g), g = min(gate, 7), u = up within ± 7. A NaN of either stays one.
inline f32x16 clamped_swiglu(f32x16 gate, f32x16 up) {
  const f32x16 one = f32x16::set(1.0f), limit = f32x16::set(7.0f);
  const f32x16 g = minimum(limit, gate), u = maximum(f32x16::set(-7.0f), minimum(limit, up));
  return (u + one) * (g / (one + exp(f32x16::set(-1.702f) * g)));
}

template <class Function>
void map(ThreadPool& pool, const float* x, int64_t n, float* y, const Function& f) {
  in_parts(pool, n, PART, [&](int64_t first, int64_t last) {
    along(x + first, last - first, [&](f32x16 v, int64_t i, int lanes) {
      put(y + first + i, lanes, f(v, first + i, lanes));
    });
  });
}

// y = act(x), times up where it is given.
inline void activate(ThreadPool& pool, int activation, const float* x, const float* up, int64_t n,
                     float* y) {
  auto with = [&](auto act) {
    if (up)
      map(pool, x, n, y,
          [&](f32x16 v, int64_t i, int lanes) { return act(v) * take(up + i, lanes); });
    else
      map(pool, x, n, y, [&](f32x16 v, int64_t, int) { return act(v); });
  };
  if (activation == CLAMPED_SWIGLU)
    map(pool, x, n, y,
        [&](f32x16 v, int64_t i, int lanes) { return clamped_swiglu(v, take(up + i, lanes)); });
  else if (activation == SILU)
    with([](f32x16 v) { return silu(v); });
  else if (activation == GELU_TANH)
    with([](f32x16 v) { return gelu_tanh(v); });
  else if (activation == GELU_ERF)
    with([](f32x16 v) { return gelu_erf(v); });
  else if (activation == SIGMOID)
    with([](f32x16 v) { return sigmoid(v); });
  else if (activation == TANH)
    with([](f32x16 v) { return tanh(v); });
  else if (activation == RELU)
    with([](f32x16 v) { return relu(v); });
  else
    with([](f32x16 v) { return relu2(v); });
}

inline void softcap(ThreadPool& pool, const float* x, float cap, int64_t n, float* y) {
  const f32x16 c = f32x16::set(cap);
  map(pool, x, n, y, [&](f32x16 v, int64_t, int) { return c * tanh(v / c); });
}

// e^x / Σ e^x of each row.
inline void softmax(ThreadPool& pool, const float* x, int64_t rows, int64_t n, float* y) {
  in_parts(pool, rows, n ? PART / n : 1, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++) {
      const float* in = x + row * n;
      float* out = y + row * n;
      float top = -INFINITY;
      for (int64_t i = 0; i < n; i++) top = std::max(top, in[i]);
      along(in, n, [&](f32x16 v, int64_t i, int lanes) {
        put(out + i, lanes, exp(v - f32x16::set(top)));
      });
      f32x16 sums = f32x16::set(0);
      along(out, n, [&](f32x16 v, int64_t, int) { sums = sums + v; });
      const f32x16 total = f32x16::set(sum(sums));
      along(out, n, [&](f32x16 v, int64_t i, int lanes) { put(out + i, lanes, v / total); });
    }
  });
}

}  // namespace
