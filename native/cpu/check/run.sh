#!/bin/sh
# Builds and runs the kernel check: run.sh [check|bench] [portable|avx2|avxvnni|avx512|neon|neon_dotprod ...]; without instruction sets, all of this machine's
# processor family. Needs g++ or clang++; CXX may be a cross compiler, and then RUN an emulator: CXX=aarch64-linux-gnu-g++ RUN="qemu-aarch64 -L /usr/aarch64-linux-gnu". CXXFLAGS come
# after our own; QUICK=1 leaves out large shapes, for emulators: CXXFLAGS="-O1 -g -fsanitize=address,undefined".
set -e
cd "$(dirname "$0")/.."
mode="${1:-check}"
[ $# -gt 0 ] && shift
cxx="${CXX:-g++}"
machine="$("$cxx" -dumpmachine)"
case "$machine" in
  x86_64*) known="portable avx2 avxvnni avx512" ;;
  aarch64*) known="portable neon neon_dotprod" ;;
  *) known="portable" ;;
esac
isas="${*:-$known}"
out="${TMPDIR:-/tmp}/millrace-kernels-check/$machine$(echo "$CXXFLAGS" | tr -cd "a-zA-Z0-9")"
mkdir -p "$out"
avx2="-mavx2 -mfma -mf16c -mbmi2"
flags() {
  case "$1" in
    avx2) echo "$avx2" ;;
    avxvnni) echo "$avx2 -mavxvnni" ;;
    neon_dotprod) echo "-march=armv8.2-a+dotprod" ;;
    avx512) echo "$avx2 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512bf16 -mavx512vbmi -mprefer-vector-width=512" ;;
  esac
}
# Compiles a source into an object unless the object is newer than it and all headers.
compile() {
  object="$1"; source="$2"; shift 2
  if [ ! -f "$object" ] || [ -n "$(find "$source" *.h ../common/*.h check/check.h -newer "$object" | head -n 1)" ]; then
    # shellcheck disable=SC2086
    "$cxx" -std=c++17 -O3 -ffp-contract=off -Wall -Wextra $CXXFLAGS "$@" -c "$source" -o "$object"
  fi
}
objects=""
variants=""
for isa in $isas; do
  variants="${variants}X($isa)"
  for source in linear*.cc quantize_activation.cc kv_*.cc limit_kernels.cc attention*.cc head_linear.cc expert_linear.cc moe_route.cc rope.cc kernel_table.cc elementwise.cc; do
    object="$out/$isa.${source%.cc}.o"
    # shellcheck disable=SC2046
    compile "$object" "$source" -DMILLRACE_ISA="$isa" $(flags "$isa")
    objects="$objects $object"
  done
done
for name in check_linear check_attention bench; do
  compile "$out/$name.o" "check/$name.cc"
  objects="$objects $out/$name.o"
done
compile "$out/thread_pool.o" thread_pool.cc
# The list of sets is compiled in: one file, each time.
"$cxx" -std=c++17 -O1 "-DMILLRACE_VARIANTS=$variants" -c check/kernels_check.cc -o "$out/kernels_check.o"
# shellcheck disable=SC2086
"$cxx" $CXXFLAGS $objects "$out/thread_pool.o" "$out/kernels_check.o" -o "$out/kernels_check" -lpthread
# shellcheck disable=SC2086
exec $RUN "$out/kernels_check" "$mode" $isas
