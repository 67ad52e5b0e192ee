// Which of the kernels' instruction sets this processor and system can run.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#if defined(__x86_64__)
#include <cpuid.h>

#include "tiles.hpp"
#elif defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace {

using Names = std::vector<std::string>;

// Best first.
#if defined(__x86_64__)
// CPUID leaf 7: AMX-TILE and AMX-INT8 (compilers before GCC 13 do not know their names).
bool has_tiles() {
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  return (d >> 24 & 1) && (d >> 25 & 1);
}

Names supported() {
  Names names;
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vnni");
  if (avx512 && has_tiles() && tiles_allowed()) names.push_back("amx");
  if (avx512) names.push_back("avx512");
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c"))
    names.push_back("avx2");
  names.push_back("baseline");
  return names;
}
#else
struct Products {
  bool dots, mixed;  // of bytes with signs, and of such with and without
};

#if defined(__APPLE__)
Products products() {
  auto has = [](const char* name) {
    int value = 0;
    size_t size = sizeof value;
    return !sysctlbyname(name, &value, &size, nullptr, 0) && value;
  };
  return {has("hw.optional.arm.FEAT_DotProd"), has("hw.optional.arm.FEAT_I8MM")};
}
#else
Products products() {
  constexpr unsigned long DOTS = 1 << 20, MIXED = 1 << 13;  // HWCAP_ASIMDDP, HWCAP2_I8MM
  return {(getauxval(AT_HWCAP) & DOTS) != 0, (getauxval(AT_HWCAP2) & MIXED) != 0};
}
#endif

Names supported() {
  Names names;
  const Products has = products();
  if (has.dots && has.mixed) names.push_back("i8mm");
  if (has.dots) names.push_back("dotprod");
  names.push_back("neon");
  return names;
}
#endif

}  // namespace

NB_MODULE(_cpu, m) {
  nanobind::set_leak_warnings(false);
  m.def("supported", &supported);
}
