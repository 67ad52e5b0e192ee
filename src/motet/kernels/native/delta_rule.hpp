// The gated delta rule, of Gated DeltaNet (a decay a head) and of Kimi Delta Attention (a decay a
// key channel). A token passes its state once: what the one before it adds enters on the way.
#pragma once
#include "scans.hpp"

namespace {

// s[i][p] = e^g[i]·s[i][p]; u[p] = β·(v[p] − Σ_i k[i]·s[i][p]); y[p] = Σ_i q[i]·s[i][p] +
// (k·q)·u[p]; s[i][p] += k[i]·u[p].
struct DeltaRule {
  Rows q, k, v, beta, dt;
  const float *dt_bias, *a;
  int64_t heads, groups, n, width;
  bool by_channel, tiled;  // of head h: the keys of group h % groups, else of h / (heads / groups)
  float eps;
  float* states;  // [slots][heads][n][width]
  float* out;
};

// What the tokens of all runs bring, in the runs' order: q and k of length 1, q · n^−½ besides.
struct DeltaTokens {
  DeltaTokens(int64_t tokens, const DeltaRule& s)
      : tokens(tokens),
        q(s.groups * tokens * s.n),
        k(s.groups * tokens * s.n),
        overlap(s.groups * tokens),
        fade(s.heads * tokens * (s.by_channel ? s.n : 1)),
        beta(s.heads * tokens) {}
  int64_t tokens;
  Buffer<float> q, k;     // [group][token][n]
  Buffer<float> overlap;  // k·q, [group][token]
  Buffer<float> fade;     // e^g, [head][token], or [head][token][n]
  Buffer<float> beta;     // [head][token]
};

constexpr int64_t ROWS_AHEAD = 4;   // of a state that comes from far memory
constexpr int64_t LARGE = 1 << 16;  // floats: states that do not wait in a cache for the next token

// 1 / √(Σ x² + eps)
inline float inverse_length(const float* x, int64_t n, float eps) {
  f32x16 squares = f32x16::set(0);
  along(x, n, [&](f32x16 v, int64_t, int) { squares = fma(v, v, squares); });
  return 1 / std::sqrt(sum(squares) + eps);
}

inline void prepare_token(const DeltaRule& s, int64_t row, int64_t t, DeltaTokens& p) {
  for (int64_t group = 0; group < s.groups; group++) {
    const float *from_q = s.q[row] + group * s.n, *from_k = s.k[row] + group * s.n;
    const int64_t place = group * p.tokens + t;
    const f32x16 by_k = f32x16::set(inverse_length(from_k, s.n, s.eps));
    const f32x16 by_q = f32x16::set(inverse_length(from_q, s.n, s.eps) / std::sqrt((float)s.n));
    float *q = p.q.p + place * s.n, *k = p.k.p + place * s.n;
    f32x16 overlap = f32x16::set(0);
    along(from_q, s.n, [&](f32x16 x, int64_t i, int lanes) {
      const f32x16 query = x * by_q, key = take(from_k + i, lanes) * by_k;
      put(q + i, lanes, query);
      put(k + i, lanes, key);
      overlap = fma(key, query, overlap);
    });
    p.overlap.p[place] = sum(overlap);
  }
  float line[LANES];
  const float* beta = s.beta[row];
  along(beta, s.heads, [&](f32x16 x, int64_t h, int lanes) {
    sigmoid(x).store(line);
    for (int i = 0; i < lanes; i++) p.beta.p[(h + i) * p.tokens + t] = line[i];
  });
  const float* dt = s.dt[row];
  if (s.by_channel) {
    for (int64_t h = 0; h < s.heads; h++)
      along(dt + h * s.n, s.n, [&](f32x16 x, int64_t i, int lanes) {
        const f32x16 step = softplus(x + take(s.dt_bias + h * s.n + i, lanes));
        put(p.fade.p + (h * p.tokens + t) * s.n + i, lanes, exp(step * f32x16::set(s.a[h])));
      });
    return;
  }
  along(dt, s.heads, [&](f32x16 x, int64_t h, int lanes) {
    const f32x16 step = softplus(x + take(s.dt_bias + h, lanes));
    exp(step * take(s.a + h, lanes)).store(line);
    for (int i = 0; i < lanes; i++) p.fade.p[(h + i) * p.tokens + t] = line[i];
  });
}

// One token of one head, as its columns see it.
struct DeltaToken {
  DeltaToken(const DeltaRule& s, const DeltaTokens& p, int64_t head, int64_t t) {
    const int64_t group = s.tiled ? head % s.groups : head / (s.heads / s.groups);
    const int64_t of_group = group * p.tokens + t, of_head = head * p.tokens + t;
    q = p.q.p + of_group * s.n;
    k = p.k.p + of_group * s.n;
    fade = p.fade.p + of_head * (s.by_channel ? s.n : 1);
    each = s.by_channel;
    overlap = p.overlap.p[of_group];
    beta = p.beta.p[of_head];
  }
  const float *q, *k, *fade;
  bool each;  // whether there is a fade for each key channel
  float overlap, beta;
};

// What a token adds to V vectors of columns, u, and its outputs.
template <int V>
inline void delta_answer(const DeltaToken& token, const float* v, int lanes,
                         const f32x16 (&found)[V], const f32x16 (&asked)[V], f32x16 (&u)[V],
                         float* out) {
  for (int i = 0; i < V; i++) {
    u[i] = f32x16::set(token.beta) * (take(v + i * LANES, lanes) - found[i]);
    put(out + i * LANES, lanes, fma(f32x16::set(token.overlap), u[i], asked[i]));
  }
}

// One token for V vectors of columns; its state is read twice, the second time from a near cache.
// FAR: what is written is not read again soon, and goes past the caches.
template <int V, bool FAR>
void delta_step(const DeltaToken& token, int64_t n, int64_t width, const float* v, int lanes,
                const float* from, float* to, float* out) {
  if constexpr (V > 1) lanes = LANES;
  f32x16 found[V], asked[V], u[V];
  for (int i = 0; i < V; i++) found[i] = asked[i] = f32x16::set(0);
  for (int64_t row = 0; row < n; row++) {
    const f32x16 fade = f32x16::set(token.fade[token.each ? row : 0]);
    const f32x16 key = f32x16::set(token.k[row]), query = f32x16::set(token.q[row]);
    for (int i = 0; i < V; i++) {
      const float* place = from + row * width + i * LANES;
      fetch(place + ROWS_AHEAD * width);
      const f32x16 s = fade * take(place, lanes);
      found[i] = fma(key, s, found[i]);
      asked[i] = fma(query, s, asked[i]);
    }
  }
  delta_answer<V>(token, v, lanes, found, asked, u, out);
  for (int64_t row = 0; row < n; row++) {
    const f32x16 fade = f32x16::set(token.fade[token.each ? row : 0]);
    const f32x16 key = f32x16::set(token.k[row]);
    for (int i = 0; i < V; i++) {
      const int64_t place = row * width + i * LANES;
      const f32x16 s = fma(key, u[i], fade * take(from + place, lanes));
      if constexpr (FAR)
        s.stream(to + place);
      else
        put(to + place, lanes, s);
    }
  }
  if constexpr (FAR) settle_streams();
}

// A token for V vectors of columns, from `from`, with so many floats from row to row, to `near`,
// where they lie together. LATER: on the way they take in what the token before, whose key was
// `before`, adds, u.
template <int V, bool LATER>
inline void delta_pass(const DeltaToken& token, int64_t n, const float* before,
                       const f32x16 (&u)[V], int lanes, const float* from, int64_t stride,
                       float* near, f32x16 (&found)[V], f32x16 (&asked)[V]) {
  if constexpr (V > 1 || LATER) lanes = LANES;
  for (int i = 0; i < V; i++) found[i] = asked[i] = f32x16::set(0);
  for (int64_t row = 0; row < n; row++) {
    const f32x16 fade = f32x16::set(token.fade[token.each ? row : 0]);
    const f32x16 key = f32x16::set(token.k[row]), query = f32x16::set(token.q[row]);
    for (int i = 0; i < V; i++) {
      f32x16 s = take(from + row * stride + i * LANES, lanes);
      if constexpr (LATER) s = fma(f32x16::set(before[row]), u[i], s);
      s = fade * s;
      s.store(near + (row * V + i) * LANES);
      found[i] = fma(key, s, found[i]);
      asked[i] = fma(query, s, asked[i]);
    }
  }
}

// All tokens of a run for V vectors of columns. In a state they are far apart, and would share few
// sets of the first-level cache; meanwhile they lie together in `near`.
template <int V>
void delta_run(const DeltaRule& s, const DeltaTokens& p, const Runs& runs, int64_t run,
               int64_t head, int64_t at, int lanes, const float* from, float* to, float* near) {
  const int64_t column = head * s.width + at, whole = s.heads * s.width;
  const int64_t start = runs.starts[run], stop = runs.starts[run + 1];
  const float* before = nullptr;
  f32x16 u[V], found[V], asked[V];
  for (int64_t t = start; t < stop; t++) {
    const DeltaToken token(s, p, head, t);
    const int64_t row = runs.order[t], soon = runs.order[std::min(t + AHEAD, stop - 1)];
    fetch(s.v[soon] + column);
    fetch(s.out + soon * whole + column);
    if (t == start)
      delta_pass<V, false>(token, s.n, before, u, lanes, from, s.width, near, found, asked);
    else
      delta_pass<V, true>(token, s.n, before, u, lanes, near, V * LANES, near, found, asked);
    delta_answer<V>(token, s.v[row] + column, lanes, found, asked, u, s.out + row * whole + column);
    before = token.k;
  }
  for (int64_t row = 0; row < s.n; row++)
    for (int i = 0; i < V; i++) {
      const f32x16 kept = f32x16::load(near + (row * V + i) * LANES);
      put(to + row * s.width + i * LANES, lanes, fma(f32x16::set(before[row]), u[i], kept));
    }
}

// Call f(V as a constant, first column, lanes) on vectors of columns, V at a time and then one.
template <int V, class Function>
inline void over_columns(int64_t at, int64_t stop, const Function& f) {
  for (; at + V * LANES <= stop; at += V * LANES) f(std::integral_constant<int, V>{}, at, LANES);
  for (; at < stop; at += LANES)
    f(std::integral_constant<int, 1>{}, at, (int)std::min<int64_t>(LANES, stop - at));
}

inline void delta_rule(ThreadPool& pool, const DeltaRule& s, const Runs& runs) {
  const int64_t tokens = runs.tokens(), size = s.heads * s.n * s.width;
  DeltaTokens p(tokens, s);
  const int64_t values = 2 * s.groups * s.n + s.heads * (s.by_channel ? 8 * s.n : 8);
  in_parts(pool, tokens, PART / values, [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; t++) prepare_token(s, runs.order[t], t, p);
  });
  // A lone token streams whole rows from far memory; the columns of many stay in a near cache.
  constexpr int LONE = REGISTERS == 1 ? 8 : 2, NEAR = REGISTERS == 1 ? 2 : 1;  // as registers allow
  constexpr int64_t BLOCK = 8 * LANES;
  const int64_t blocks = (s.width + BLOCK - 1) / BLOCK;
  over_runs(
      pool, runs, s.heads * blocks, 4 * s.n * BLOCK / LANES,
      [&](int64_t run, int64_t unit, int64_t last) {
        Buffer<float> near(s.n * NEAR * LANES);
        for (; unit < last; unit++) {
          const int64_t head = unit / blocks, first = unit % blocks * BLOCK;
          const int64_t stop = std::min(s.width, first + BLOCK), place = head * s.n * s.width;
          float* to = s.states + runs.write[run] * size + place;
          const float* from = slot_of(s.states, runs.read[run], size);
          from =
              begin(from ? from + place + first : nullptr, to + first, s.n, s.width, stop - first) -
              first;
          const int64_t t = runs.starts[run];
          const bool goes_on = run + 1 < runs.count && runs.read[run + 1] == runs.write[run];
          const bool far = size >= LARGE && from != to && !goes_on && s.width % LANES == 0 &&
                           (uintptr_t)s.states % 64 == 0;
          if (runs.starts[run + 1] - t == 1) {
            const DeltaToken token(s, p, head, t);
            const int64_t row = runs.order[t], column = head * s.width;
            over_columns<LONE>(first, stop, [&](auto V, int64_t at, int lanes) {
              const float* v = s.v[row] + column + at;
              float* out = s.out + row * s.heads * s.width + column + at;
              if (V() > 1 && far)
                delta_step<V(), true>(token, s.n, s.width, v, lanes, from + at, to + at, out);
              else
                delta_step<V(), false>(token, s.n, s.width, v, lanes, from + at, to + at, out);
            });
          } else {
            over_columns<NEAR>(first, stop, [&](auto V, int64_t at, int lanes) {
              delta_run<V()>(s, p, runs, run, head, at, lanes, from + at, to + at, near.p);
            });
          }
        }
      });
}

}  // namespace
