// The parts of libjpeg that flatvq uses: the memory layout of its structures, and its functions.
//
// libjpeg's headers are usually missing when flatvq is installed, so the layout is declared here. It is that of
// version 6b, which libjpeg-turbo still has. libjpeg checks the version and the size.

#pragma once

#include <csetjmp>
#include <cstddef>
#include <cstdint>

namespace flatvq {

struct Decompress;

struct ErrorManager {
    void (*error_exit)(Decompress*);
    void (*emit_message)(Decompress*, int level);
    void (*other_handlers[3])();
    std::byte rest[128];
};

struct Decompress {
    ErrorManager* errors;
    void* other_managers[2];
    void* client_data;
    int is_decompressor, global_state;
    void* source;
    // Read from the file.
    unsigned image_width, image_height;
    int components, colour_space;
    // Options; the defaults are exact, with smooth chroma upsampling.
    int out_colour_space;
    unsigned scale[2];
    double output_gamma;
    int other_choices[12];
    // The output.
    unsigned output_width, output_height;
    int about_rows[4];
    void* colormap;
    unsigned output_row;
    std::byte rest[460];
};

#if UINTPTR_MAX != UINT64_MAX
#error "the sizes are those of 64-bit systems"
#endif
static_assert(sizeof(ErrorManager) == 168 && sizeof(Decompress) == 632);

constexpr int kVersion = 62, kColourRgb = 2;

// libjpeg's functions, looked up by name in a loaded library.
struct Libjpeg {
    ErrorManager* (*standard_errors)(ErrorManager*);
    void (*create)(Decompress*, int version, std::size_t size);
    void (*read_from_memory)(Decompress*, const std::uint8_t* file, unsigned long bytes);
    int (*read_header)(Decompress*, int require_image);
    int (*start)(Decompress*);
    void (*crop)(Decompress*, unsigned* left, unsigned* width);
    unsigned (*skip_rows)(Decompress*, unsigned rows);
    unsigned (*read_rows)(Decompress*, std::uint8_t** rows, unsigned most);
    int (*finish)(Decompress*);
    void (*destroy)(Decompress*);
};

}  // namespace flatvq
