#!/usr/bin/env bash
# A 64-bit ARM Python with the libraries of Motet and its kernels, on an x86-64 Debian or Ubuntu: everything lies in build/arm and is
# made once. The kernels are those of the variants that are named ("neon", "dotprod", "i8mm").
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=$PWD/.venv/bin
at=$PWD/build/arm
mkdir -p "$at"

for tool in aarch64-linux-gnu-g++ qemu-aarch64 dpkg-deb apt-get; do
  command -v "$tool" >/dev/null || {
    echo "$tool is missing: apt install g++-aarch64-linux-gnu qemu-user" >&2
    exit 3
  }
done

# Python and its headers from the system's own package index, of the other architecture, without being installed.
if [ ! -f "$at/root.done" ]; then
  apt=$at/apt
  rm -rf "$at/root" "$apt"
  mkdir -p "$at/root" "$apt/lists/partial" "$apt/archives/partial"
  touch "$apt/status"
  cat >"$apt/apt.conf" <<END
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
Dir::State "$apt";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt";
Dir::Cache::archives "$apt/archives";
Acquire::Languages "none";
END
  export APT_CONFIG=$apt/apt.conf
  apt-get update -qq 2>/dev/null || true  # sources without packages for ARM don't matter
  apt-get install -qq --yes --download-only --no-install-recommends python3 libpython3-dev libstdc++6 >/dev/null
  unset APT_CONFIG
  for package in "$apt"/archives/*.deb; do dpkg-deb --extract "$package" "$at/root"; done
  rm -rf "$apt"
  touch "$at/root.done"
fi

python=$(basename "$(find "$at/root/usr/bin" -name 'python3.[0-9]*' ! -name '*config' | head -1)")
tag=cp${python#python}
tag=${tag/./}

if [ ! -f "$at/site.done" ] || [ pyproject.toml -nt "$at/site.done" ]; then
  rm -rf "$at/site"
  "$bin/python" - <<'END' >"$at/requirements.txt"
import sys
if sys.version_info >= (3, 11):
    import tomllib
else:
    import pip._vendor.tomli as tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
print("\n".join([*project["dependencies"], "pytest>=8", "hypothesis>=6"]))
END
  "$bin/pip" install --quiet --target "$at/site" --only-binary=:all: --implementation cp --python-version "${tag#cp}" \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 \
    --requirement "$at/requirements.txt"
  touch "$at/site.done"
fi

"$bin/pip" install --quiet cmake ninja nanobind
PATH=$bin:$PATH cmake -S . -B "$at/cmake" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ \
  -DCMAKE_CXX_FLAGS="-isystem $at/root/usr/include" -DPython_EXECUTABLE="$bin/python" \
  -DPython_INCLUDE_DIR="$at/root/usr/include/$python" -DSKBUILD_SOABI="${tag/cp/cpython-}-aarch64-linux-gnu" \
  -Dnanobind_DIR="$("$bin/python" -m nanobind --cmake_dir)" >"$at/cmake.log" || { cat "$at/cmake.log"; exit 1; }
for variant in "$@"; do
  PATH=$bin:$PATH cmake --build "$at/cmake" --target "_$variant" --target _cpu
done
for built in "$at"/cmake/_*.so; do
  cp "$built" "src/motet/kernels/$(basename "$built").new"
  mv "src/motet/kernels/$(basename "$built").new" "src/motet/kernels/$(basename "$built")"
done
ln -sfn "root/usr/bin/$python" "$at/python"
