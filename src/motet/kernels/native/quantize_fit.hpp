// Scales with the least squared error, by search: sixteen groups of values at once, one in each
// lane, value by value.
//
// What is tried: candidates for a group's scale, each with the best scale for its quants (least
// squares), the best of them refined so; then the super-block's scales, the groups' whole numbers
// beside the nearest ones, and the super-block's scales for these numbers, by turns. No operation
// is fused, so that NumPy (reference_search.py) and every instruction set have the same bits.
#pragma once
#include <cmath>

#include "quantize_blocks.hpp"
#include "quantize_round.hpp"
#include "simd.hpp"

namespace {

// The values of sixteen groups and the weights of their squared errors, value by value.
template <int values, bool weighted>
struct Groups {
  static constexpr int VALUES = values;
  alignas(64) float x[values * LANES];
  alignas(64) float weight[weighted ? values * LANES : 1];

  f32x16 at(int i) const { return f32x16::load(x + i * LANES); }
  f32x16 times_weight(f32x16 a, int i) const {
    if constexpr (weighted)
      return a * f32x16::load(weight + i * LANES);
    else
      return a;
  }
};

// As float16 holds it, the nearest that is finite.
inline f32x16 as_half(f32x16 a) {
  const f32x16 most = f32x16::set(65504);
  uint16_t half[LANES];
  minimum(most, maximum(f32x16::set(-65504), a)).store_half(half);
  return f32x16::half(half);
}

// Of each `groups` neighbouring lanes the sum, the greatest, and what is greatest in magnitude (the
// first of equals), in all of them.
template <int groups, class Function>
inline f32x16 of_each_super(f32x16 a, const Function& f) {
  float x[LANES];
  a.store(x);
  for (int s = 0; s < LANES; s += groups) {
    float all = x[s];
    for (int g = 1; g < groups; g++) all = f(all, x[s + g]);
    for (int g = 0; g < groups; g++) x[s + g] = all;
  }
  return f32x16::load(x);
}
template <int groups>
inline f32x16 total(f32x16 a) {
  return of_each_super<groups>(a, [](float all, float x) { return all + x; });
}
template <int groups>
inline f32x16 greatest(f32x16 a) {
  return of_each_super<groups>(a, [](float all, float x) { return all < x ? x : all; });
}
template <int groups>
inline f32x16 extreme(f32x16 a) {
  return of_each_super<groups>(
      a, [](float all, float x) { return std::fabs(all) < std::fabs(x) ? x : all; });
}

// Whole numbers that a quant or a scale can be.
template <int low, int high>
struct Whole {
  static constexpr int LOW = low, HIGH = high;
  static f32x16 near(f32x16 y) {
    return nearest(minimum(f32x16::set(high), maximum(f32x16::set(low), y)));
  }
  static i32x16 code(f32x16 y) { return round_to_int(near(y) - f32x16::set(low)); }
};

// The sixteen values of the IQ4 types.
struct Table {
  static f32x16 near(f32x16 y) {
    f32x16 v = f32x16::set(IQ4_VALUES[0]);
    const f32x16 zero = f32x16::set(0);
#pragma GCC unroll 15
    for (int k = 0; k < 15; k++) {
      const f32x16 middle = f32x16::set((IQ4_VALUES[k] + IQ4_VALUES[k + 1]) * 0.5f);
      const f32x16 step = f32x16::set(IQ4_VALUES[k + 1] - IQ4_VALUES[k]);
      v = v + choose_below(middle, y, step, zero);
    }
    return v;
  }
  static i32x16 code(f32x16 y) {
    f32x16 v = f32x16::set(0);
    for (int k = 0; k < 15; k++) {
      const f32x16 middle = f32x16::set((IQ4_VALUES[k] + IQ4_VALUES[k + 1]) * 0.5f);
      v = v + choose_below(middle, y, f32x16::set(1), f32x16::set(0));
    }
    return round_to_int(v);
  }
};

// x ≈ a·q: Σ w·x·q and Σ w·q² of the quants nearest to x · inverse.
struct ScaleSums {
  f32x16 xq, qq;
};
template <class Grid, class G>
inline ScaleSums scale_sums(const G& group, f32x16 inverse) {
  ScaleSums s{f32x16::set(0), f32x16::set(0)};
#pragma GCC unroll 4
  for (int i = 0; i < G::VALUES; i++) {
    const f32x16 x = group.at(i), q = Grid::near(x * inverse), wq = group.times_weight(q, i);
    s.xq = s.xq + x * wq;
    s.qq = s.qq + q * wq;
  }
  return s;
}
template <class Grid, class G>
inline f32x16 scale_error(const G& group, f32x16 a) {
  const f32x16 inverse = inverse_or_zero(a);
  f32x16 error = f32x16::set(0);
#pragma GCC unroll 4
  for (int i = 0; i < G::VALUES; i++) {
    const f32x16 x = group.at(i), rest = x - a * Grid::near(x * inverse);
    error = error + rest * group.times_weight(rest, i);
  }
  return error;
}

// Where the value of the largest magnitude is put, among the quants: below 0 and above.
struct Ends {
  float first_below, last_below, first_above, last_above, step;
};

// a of the least Σ w·(x − a·q)².
template <class Grid, class G>
inline f32x16 fit_scale(const G& group, Ends tried) {
  const f32x16 zero = f32x16::set(0);
  f32x16 most = zero, end = zero;
  for (int i = 0; i < G::VALUES; i++) {
    const f32x16 x = group.at(i), size = magnitude(x);
    end = choose_below(most, size, x, end);
    most = maximum(size, most);
  }
  f32x16 best = zero, a = zero;
  const auto attempt = [&](f32x16 inverse) {
    const ScaleSums s = scale_sums<Grid>(group, inverse);
    const f32x16 own = s.xq / s.qq, gain = own * s.xq;
    a = choose_below(best, gain, own, a);
    best = choose_below(best, gain, gain, best);
  };
  const f32x16 per_end = inverse_or_zero(end);
  for (float at = tried.first_below; at <= tried.last_below; at += tried.step)
    attempt(f32x16::set(at) * per_end);
  for (float at = tried.first_above; at <= tried.last_above; at += tried.step)
    attempt(f32x16::set(at) * per_end);
  for (int round = 0; round < 2; round++) attempt(inverse_or_zero(a));
  return a;
}

// A super-block's scale d and its groups' whole numbers s: x ≈ d·s·q.
struct SuperScale {
  f32x16 d, s, error;
  // The other's, where `own` < `limit`.
  void take(const SuperScale& other, f32x16 own, f32x16 limit) {
    d = choose_below(own, limit, other.d, d);
    s = choose_below(own, limit, other.s, s);
    error = choose_below(own, limit, other.error, error);
  }
};
template <class Grid, class Scales, int groups, class G>
inline SuperScale fit_super_scale(const G& group, f32x16 a) {
  SuperScale best{};
  const f32x16 end = extreme<groups>(a);
  f32x16 least = f32x16::set(INFINITY);
  // The scale that is largest in magnitude becomes one of the lowest four numbers.
  for (int k = 0; k < 4; k++) {
    SuperScale now;
    now.d = as_half(end / f32x16::set(Scales::LOW + k));
    now.s = Scales::near(a * inverse_or_zero(now.d));
    now.error = scale_error<Grid>(group, now.d * now.s);
    best.take(now, total<groups>(now.error), least);
    least = total<groups>(best.error);
  }
  for (int round = 0; round < 2; round++) {
    const SuperScale at = best;
    for (int step = -1; step <= 1; step += 2) {
      SuperScale now = at;
      now.s = Scales::near(at.s + f32x16::set(step));
      now.error = scale_error<Grid>(group, now.d * now.s);
      best.take(now, now.error, best.error);
    }
    SuperScale next = best;
    const ScaleSums sums = scale_sums<Grid>(group, inverse_or_zero(best.d * best.s));
    const f32x16 above = total<groups>(best.s * sums.xq);
    const f32x16 below = total<groups>(best.s * (best.s * sums.qq));
    next.d = as_half(above * inverse_or_zero(below));
    next.error = scale_error<Grid>(group, next.d * next.s);
    best.take(next, total<groups>(next.error), total<groups>(best.error));
  }
  return best;
}

// x ≈ a·q + c.
struct Line {
  f32x16 a, c;
};
struct LineSums {
  f32x16 q, qq, xq;
};
// Of quants nearest to x · inverse + offset, where x is the value less `from`.
template <class Grid, class G>
inline LineSums line_sums(const G& group, f32x16 from, f32x16 inverse, f32x16 offset) {
  LineSums s{f32x16::set(0), f32x16::set(0), f32x16::set(0)};
#pragma GCC unroll 4
  for (int i = 0; i < G::VALUES; i++) {
    const f32x16 x = group.at(i) - from, q = Grid::near(x * inverse + offset);
    const f32x16 wq = group.times_weight(q, i);
    s.q = s.q + wq;
    s.qq = s.qq + q * wq;
    s.xq = s.xq + x * wq;
  }
  return s;
}
// Σ w and Σ w·x.
struct LineTotals {
  f32x16 weights, x;
};
template <class G>
inline LineTotals line_totals(const G& group, f32x16 from) {
  LineTotals s{f32x16::set(0), f32x16::set(0)};
  for (int i = 0; i < G::VALUES; i++) {
    s.weights = s.weights + group.times_weight(f32x16::set(1), i);
    s.x = s.x + group.times_weight(group.at(i) - from, i);
  }
  return s;
}
template <class Grid, class G>
inline f32x16 line_error(const G& group, Line line) {
  const f32x16 inverse = inverse_or_zero(line.a);
  f32x16 error = f32x16::set(0);
#pragma GCC unroll 4
  for (int i = 0; i < G::VALUES; i++) {
    const f32x16 x = group.at(i) - line.c, rest = x - line.a * Grid::near(x * inverse);
    error = error + rest * group.times_weight(rest, i);
  }
  return error;
}

// Ranges that are longer or shorter than the values' by so many steps between quants, and lie
// off their middle by −off to off steps.
struct Ranges {
  float shortest, longest, step, off, off_step;
};

// a and c of the least Σ w·(x − a·q − c)²; c ≤ 0 if `below`.
template <class Grid, bool below, class G>
inline Line fit_line(const G& group, Ranges tried) {
  const f32x16 zero = f32x16::set(0), two = f32x16::set(2);
  f32x16 low = group.at(0), high = low;
  for (int i = 1; i < G::VALUES; i++) {
    low = minimum(group.at(i), low);
    high = maximum(group.at(i), high);
  }
  if (below) low = minimum(low, zero);
  const LineTotals all = line_totals(group, low);
  const f32x16 weights = all.weights, sum = all.x;
  f32x16 best = f32x16::set(-1);
  Line line{zero, low};
  const auto attempt = [&](f32x16 inverse, f32x16 offset) {
    const LineSums s = line_sums<Grid>(group, low, inverse, offset);
    const f32x16 det = weights * s.qq - s.q * s.q;
    const f32x16 slope = (weights * s.xq - sum * s.q) / det;
    // Quants that are all alike, or as good as that, have no slope.
    const f32x16 alike = f32x16::set(0x1p-18f) * (weights * s.qq);
    f32x16 a = choose_below(alike, det, maximum(slope, zero), zero);
    f32x16 c = (sum - a * s.q) / weights;
    if (below) {
      const f32x16 limit = zero - low, through = (s.xq - limit * s.q) * inverse_or_zero(s.qq);
      a = choose_below(limit, c, maximum(through, zero), a);
      c = minimum(limit, c);
    }
    const f32x16 gain =
        two * (a * s.xq + c * sum) - (a * (a * s.qq + two * (c * s.q)) + c * c * weights);
    line.a = choose_below(best, gain, a, line.a);
    line.c = choose_below(best, gain, low + c, line.c);
    best = choose_below(best, gain, gain, best);
  };
  const f32x16 per_range = inverse_or_zero(high - low);
  for (float longer = tried.shortest; longer <= tried.longest; longer += tried.step)
    for (float off = -tried.off; off <= tried.off; off += tried.off_step)
      attempt(f32x16::set(Grid::HIGH + longer) * per_range, f32x16::set(off - 0.5f * longer));
  for (int round = 0; round < 2; round++) {
    const f32x16 inverse = inverse_or_zero(line.a);
    attempt(inverse, (low - line.c) * inverse);
  }
  if (below) line.c = minimum(line.c, zero);
  return line;
}

// A super-block's scales d and m and its groups' whole numbers: x ≈ d·s·q − m·t.
struct SuperLine {
  f32x16 d, m, s, t, error;
  Line line() const { return {d * s, f32x16::set(0) - m * t}; }
  void take(const SuperLine& other, f32x16 own, f32x16 limit) {
    d = choose_below(own, limit, other.d, d);
    m = choose_below(own, limit, other.m, m);
    s = choose_below(own, limit, other.s, s);
    t = choose_below(own, limit, other.t, t);
    error = choose_below(own, limit, other.error, error);
  }
};
// The largest scale and minimum become one of the highest 1 + `shorter` numbers.
template <class Grid, class Scales, int groups, int shorter, class G>
inline SuperLine fit_super_line(const G& group, Line line) {
  const f32x16 zero = f32x16::set(0);
  SuperLine best{};
  const f32x16 depth = zero - line.c;
  const f32x16 steepest = greatest<groups>(line.a), deepest = greatest<groups>(depth);
  f32x16 least = f32x16::set(INFINITY);
  for (int k = 0; k <= shorter; k++)
    for (int j = 0; j <= shorter; j++) {
      SuperLine now;
      now.d = as_half(steepest / f32x16::set(Scales::HIGH - k));
      now.m = as_half(deepest / f32x16::set(Scales::HIGH - j));
      now.s = Scales::near(line.a * inverse_or_zero(now.d));
      now.t = Scales::near(depth * inverse_or_zero(now.m));
      now.error = line_error<Grid>(group, now.line());
      best.take(now, total<groups>(now.error), least);
      least = total<groups>(best.error);
    }
  const LineTotals all = line_totals(group, zero);
  for (int round = 0; round < 2; round++) {
    const SuperLine at = best;
    for (int ds = -1; ds <= 1; ds++)
      for (int dt = -1; dt <= 1; dt++) {
        if (ds == 0 && dt == 0) continue;
        SuperLine now = at;
        now.s = Scales::near(at.s + f32x16::set(ds));
        now.t = Scales::near(at.t + f32x16::set(dt));
        now.error = line_error<Grid>(group, now.line());
        best.take(now, now.error, best.error);
      }
    // d and m for these numbers: together or, where they do not tell them apart, d alone.
    const Line now = best.line();
    const f32x16 inverse = inverse_or_zero(now.a);
    const LineSums own = line_sums<Grid>(group, zero, inverse, zero - now.c * inverse);
    const f32x16 ss = total<groups>(best.s * (best.s * own.qq));
    const f32x16 st = total<groups>(best.s * (best.t * own.q));
    const f32x16 tt = total<groups>(best.t * (best.t * all.weights));
    const f32x16 sx = total<groups>(best.s * own.xq), tx = total<groups>(best.t * all.x);
    const f32x16 det = ss * tt - st * st;
    const f32x16 d = choose_below(zero, det, (sx * tt - tx * st) / det, sx * inverse_or_zero(ss));
    const f32x16 m = choose_below(zero, det, (sx * st - tx * ss) / det, zero);
    SuperLine next = best;
    next.d = as_half(d);
    next.m = as_half(m);
    next.error = line_error<Grid>(group, next.line());
    best.take(next, total<groups>(next.error), total<groups>(best.error));
  }
  return best;
}

}  // namespace
