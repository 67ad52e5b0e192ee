// What each type that is searched for tries, and what comes of it.
#pragma once
#include "quantize_fit.hpp"

namespace {

// Sixteen groups as they are coded: quants value by value, and of each group the scales of its
// block and its own.
template <int values>
struct SearchedGroups {
  uint8_t q[values * LANES];
  uint16_t d[LANES], m[LANES];
  int8_t s[LANES], t[LANES];
};

// A type's groups: so many values in each, so many groups in a block.
template <int type>
struct Search;

template <int values, int groups>
struct SearchOf {
  static constexpr int VALUES = values, GROUPS = groups, TOGETHER = LANES / groups;
  using Out = SearchedGroups<values>;
};

template <class Grid, class G, class Out>
inline void put_scaled(const G& group, f32x16 a, Out& out) {
  const f32x16 inverse = inverse_or_zero(a);
  for (int i = 0; i < G::VALUES; i++)
    store_bytes((int8_t*)out.q + i * LANES, Grid::code(group.at(i) * inverse));
}
template <class Grid, class G, class Out>
inline void put_line(const G& group, Line line, Out& out) {
  const f32x16 inverse = inverse_or_zero(line.a);
  for (int i = 0; i < G::VALUES; i++)
    store_bytes((int8_t*)out.q + i * LANES, Grid::code((group.at(i) - line.c) * inverse));
}

// A float16 scale for each group.
template <class Grid, Ends tried>
struct Scaled : SearchOf<BLOCK, 1> {
  template <class G>
  static void search(const G& group, Out& out) {
    const f32x16 d = as_half(fit_scale<Grid>(group, tried));
    d.store_half(out.d);
    put_scaled<Grid>(group, d, out);
  }
};

// A float16 scale and minimum for each group.
template <class Grid, Ranges tried>
struct Lined : SearchOf<BLOCK, 1> {
  template <class G>
  static void search(const G& group, Out& out) {
    const Line line = fit_line<Grid, false>(group, tried), stored{as_half(line.a), as_half(line.c)};
    stored.a.store_half(out.d);
    stored.c.store_half(out.m);
    put_line<Grid>(group, stored, out);
  }
};

// Super-blocks with a scale for each group.
template <class Grid, class Scales, int values, int groups, Ends tried>
struct SuperScaled : SearchOf<values, groups> {
  template <class G>
  static void search(const G& group, SearchedGroups<values>& out) {
    const f32x16 a = fit_scale<Grid>(group, tried);
    const SuperScale super = fit_super_scale<Grid, Scales, groups>(group, a);
    super.d.store_half(out.d);
    store_bytes(out.s, round_to_int(super.s));
    put_scaled<Grid>(group, super.d * super.s, out);
  }
};

// Super-blocks with a scale and a minimum for each group.
template <class Grid, class Scales, int values, int groups, Ranges tried, int shorter>
struct SuperLined : SearchOf<values, groups> {
  template <class G>
  static void search(const G& group, SearchedGroups<values>& out) {
    const Line line = fit_line<Grid, true>(group, tried);
    const SuperLine super = fit_super_line<Grid, Scales, groups, shorter>(group, line);
    super.d.store_half(out.d);
    super.m.store_half(out.m);
    store_bytes(out.s, round_to_int(super.s));
    store_bytes(out.t, round_to_int(super.t));
    put_line<Grid>(group, super.line(), out);
  }
};

// What each type tries; the same numbers stand in reference_search.py.
inline constexpr Ranges RANGES{-2, 1.5f, 0.5f, 0.375f, 0.375f};

template <>
struct Search<Q4_0> : Scaled<Whole<-8, 7>, Ends{-9.5f, -6.5f, 6.5f, 8.5f, 0.25f}> {};
template <>
struct Search<Q5_0> : Scaled<Whole<-16, 15>, Ends{-17.5f, -14, 14, 16.5f, 0.25f}> {};
template <>
struct Search<IQ4_NL> : Scaled<Table, Ends{-158, -102, 84, 132, 4}> {};
template <>
struct Search<Q4_1> : Lined<Whole<0, 15>, RANGES> {};
template <>
struct Search<Q5_1> : Lined<Whole<0, 31>, RANGES> {};
template <>
struct Search<Q2_K>
    : SuperLined<Whole<0, 3>, Whole<0, 15>, 16, 16, Ranges{-1, 1.5f, 0.5f, 0.5625f, 0.375f}, 2> {};
template <>
struct Search<Q3_K>
    : SuperScaled<Whole<-4, 3>, Whole<-32, 31>, 16, 16, Ends{-5.25f, -2.75f, 2.5f, 4.25f, 0.25f}> {
};
template <>
struct Search<Q4_K> : SuperLined<Whole<0, 15>, Whole<0, 63>, 32, 8, RANGES, 0> {};
template <>
struct Search<Q5_K> : SuperLined<Whole<0, 31>, Whole<0, 63>, 32, 8, RANGES, 0> {};
template <>
struct Search<Q6_K>
    : SuperScaled<Whole<-32, 31>, Whole<-128, 127>, 16, 16, Ends{-34, -29.5f, 29.5f, 33, 0.25f}> {};
template <>
struct Search<IQ4_XS> : SuperScaled<Table, Whole<-32, 31>, 32, 8, Ends{-158, -102, 84, 132, 4}> {};

}  // namespace
