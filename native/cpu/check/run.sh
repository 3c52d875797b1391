#!/bin/sh
# Builds and runs the kernel check: run.sh [check|bench] [portable|avx2|avx512 ...]. Needs g++ or clang++ (CXX) on x86-64.
set -e
cd "$(dirname "$0")/.."
out="${TMPDIR:-/tmp}/millrace-kernels-check"
mkdir -p "$out"
cxx="${CXX:-g++}"
avx2="-mavx2 -mfma -mf16c -mbmi2"
avx512="$avx2 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512bf16 -mprefer-vector-width=512"
# Compiles a source into an object unless the object is newer than it and all headers.
compile() {
  object="$1"; source="$2"; shift 2
  if [ ! -f "$object" ] || [ -n "$(find "$source" *.h ../common/*.h check/check.h -newer "$object" | head -n 1)" ]; then
    "$cxx" -std=c++17 -O3 -ffp-contract=off -Wall -Wextra "$@" -c "$source" -o "$object"
  fi
}
for name in linear linear_float linear_bf16 linear_q8_0 linear_q4_0 linear_blocks linear_fields linear_pack quantize_activation kv_cache attention attention_split attention_direct attention_latent head_linear rope kernel_table elementwise; do
  compile "$out/portable.$name.o" "$name.cc" -DMILLRACE_ISA=portable
  compile "$out/avx2.$name.o" "$name.cc" -DMILLRACE_ISA=avx2 $avx2
  compile "$out/avx512.$name.o" "$name.cc" -DMILLRACE_ISA=avx512 $avx512
done
for name in kernels_check check_linear check_attention bench; do compile "$out/$name.o" "check/$name.cc"; done
compile "$out/thread_pool.o" thread_pool.cc
"$cxx" "$out"/*.o -o "$out/kernels_check" -lpthread
exec "$out/kernels_check" "$@"
