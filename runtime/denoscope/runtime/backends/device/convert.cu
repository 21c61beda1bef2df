/* Counts of the camera to normalised units and back, beside engines that cannot read 16-bit integers.

   The operations and their order are those of `normalise_into` and `restore` in _convert.py, one rounding
   each: compile without contraction to fused multiply-adds (--fmad=false). No header is needed, so that
   NVRTC compiles it without a CUDA toolkit; a test compiles the same text as plain C (see PLAIN_C). */

#ifndef PLAIN_C
#define KERNEL extern "C" __global__ void
#define FIRST (blockIdx.x * (unsigned long long)blockDim.x + threadIdx.x)
#define STRIDE (gridDim.x * (unsigned long long)blockDim.x)
#define RINT rintf
#define CLIP(x, low, high) fminf(fmaxf(x, low), high)

typedef unsigned short half_bits;

static __device__ __forceinline__ half_bits to_half(float x) {
    half_bits bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}

static __device__ __forceinline__ float from_half(half_bits bits) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}
#endif

typedef unsigned char uint8;
typedef unsigned short uint16;
typedef short int16;

#define SAME(x) (x)

/* frame = (counts - offset) * factor; offset and factor are one number each, in the device's memory. */
#define ENCODE(COUNT, TYPE, NUMBER, STORE)                                                                    \
    KERNEL COUNT##_to_##NUMBER(const COUNT *counts, const float *offset, const float *factor, TYPE *frame,    \
                               unsigned long long pixels) {                                                   \
        for (unsigned long long i = FIRST; i < pixels; i += STRIDE) {                                         \
            float above = (float)counts[i] - offset[0];                                                       \
            frame[i] = STORE(above * factor[0]);                                                              \
        }                                                                                                     \
    }

/* counts = mean * factor + offset, clipped to the range of the type and rounded half to even. */
#define DECODE(COUNT, LOW, HIGH, TYPE, NUMBER, LOAD)                                                          \
    KERNEL NUMBER##_to_##COUNT(const TYPE *mean, const float *offset, const float *factor, COUNT *counts,     \
                               unsigned long long pixels) {                                                   \
        for (unsigned long long i = FIRST; i < pixels; i += STRIDE) {                                         \
            float scaled = LOAD(mean[i]) * factor[0];                                                         \
            float value = scaled + offset[0];                                                                 \
            counts[i] = (COUNT)RINT(CLIP(value, LOW, HIGH));                                                  \
        }                                                                                                     \
    }

#define BOTH(COUNT, LOW, HIGH)                                                                                \
    ENCODE(COUNT, float, float32, SAME)                                                                       \
    ENCODE(COUNT, half_bits, float16, to_half)                                                                \
    DECODE(COUNT, LOW, HIGH, float, float32, SAME)                                                            \
    DECODE(COUNT, LOW, HIGH, half_bits, float16, from_half)

BOTH(uint8, 0.0f, 255.0f)
BOTH(uint16, 0.0f, 65535.0f)
BOTH(int16, -32768.0f, 32767.0f)
