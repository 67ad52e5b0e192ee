// Which of the kernels' instruction sets this processor and system can run.
#include <cpuid.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "tiles.hpp"

namespace {

// CPUID leaf 7: AMX-TILE and AMX-INT8 (compilers before GCC 13 do not know their names).
bool has_tiles() {
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  return (d >> 24 & 1) && (d >> 25 & 1);
}

}  // namespace

NB_MODULE(_cpu, m) {
  nanobind::set_leak_warnings(false);
  // Best first.
  m.def("supported", [] {
    std::vector<std::string> names;
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
  });
}
