// Decodes a part of a JPEG, by Pillow's libjpeg. What lies outside is read too, for it may be damaged, but only
// as far as its bits go: it is neither transformed nor put into colours, which is a third of decoding.

#include <dlfcn.h>

#include <algorithm>

#include "libjpeg.h"

namespace flatvq {
namespace {

// How far beside a pixel its colour may come from, in columns: that is stored at half the width, and smoothed.
constexpr std::int64_t kReach = 2;
constexpr int kRowsAtOnce = 16;

// libjpeg expects of an error that nobody returns from it.
struct Errors {
    ErrorManager manager;
    std::jmp_buf place;
};

void jump(Decompress* image) { std::longjmp(reinterpret_cast<Errors*>(image->errors)->place, 1); }

void jump_if_damaged(Decompress* image, int level) {
    if (level < 0) jump(image);
}

void report_to(Errors& errors, Decompress& image, const Libjpeg& libjpeg) {
    image.errors = libjpeg.standard_errors(&errors.manager);
    errors.manager.error_exit = jump;
    errors.manager.emit_message = jump_if_damaged;
}

struct Part {
    std::int64_t top, left, height, width;
};

void read_until(unsigned row, Decompress& image, const Libjpeg& libjpeg, std::uint8_t* first, std::int64_t stride) {
    std::uint8_t* rows[kRowsAtOnce];
    while (image.output_row < row) {
        const unsigned count = std::min<unsigned>(row - image.output_row, kRowsAtOnce);
        for (unsigned i = 0; i < count; ++i) rows[i] = first + (image.output_row + i) * stride;
        libjpeg.read_rows(&image, rows, count);
    }
}

void decode(Decompress& image, const Libjpeg& libjpeg, const Part& part, std::uint8_t* pixels) {
    image.out_colour_space = kColourRgb;  // which it makes of three colours and of grey, of nothing else
    libjpeg.start(&image);
    const std::int64_t all = image.output_width, stride = 3 * all;
    const std::int64_t end = std::min(all, part.left + part.width + kReach);
    unsigned left = std::max<std::int64_t>(0, part.left - kReach), width = end - left;
    // The first column that is decoded may lie further left: whole blocks are.
    if (width < all) libjpeg.crop(&image, &left, &width);
    if (part.top > 0) libjpeg.skip_rows(&image, part.top);
    read_until(part.top + part.height, image, libjpeg, pixels + 3 * left, stride);
    // Rows that are skipped up to the very end are not looked at.
    const unsigned below = image.output_height - image.output_row;
    if (below > 1) libjpeg.skip_rows(&image, below - 1);
    read_until(image.output_height, image, libjpeg, pixels + 3 * left, stride);
    libjpeg.finish(&image);
}

template <typename Function>
bool find(void* library, const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library, name));
    return function;
}

}  // namespace

extern "C" {

// Finds libjpeg in a library that is loaded, or in one that this was linked to. Returns nothing if it is not
// there, cannot decode parts, or lays out its structures in another way. What it returns is there for good.
const Libjpeg* flatvq_libjpeg(void* library) {
    Libjpeg libjpeg;
    Errors errors;
    Decompress image;
    const bool found =
        find(library, "jpeg_std_error", libjpeg.standard_errors) &&
        find(library, "jpeg_CreateDecompress", libjpeg.create) &&
        find(library, "jpeg_mem_src", libjpeg.read_from_memory) &&
        find(library, "jpeg_read_header", libjpeg.read_header) &&
        find(library, "jpeg_start_decompress", libjpeg.start) &&
        find(library, "jpeg_crop_scanline", libjpeg.crop) &&
        find(library, "jpeg_skip_scanlines", libjpeg.skip_rows) &&
        find(library, "jpeg_read_scanlines", libjpeg.read_rows) &&
        find(library, "jpeg_finish_decompress", libjpeg.finish) &&
        find(library, "jpeg_destroy_decompress", libjpeg.destroy);
    if (!found) return nullptr;
    report_to(errors, image, libjpeg);
    if (setjmp(errors.place)) return nullptr;
    libjpeg.create(&image, kVersion, sizeof image);
    libjpeg.destroy(&image);
    return new Libjpeg(libjpeg);
}

// Decodes a part of a JPEG, of colours or grey and of the given size, to its place in `pixels`, [height, width, 3].
// Outside of the part they mean nothing. Returns 0 if the file is damaged, or is another one.
int flatvq_jpeg_part(const Libjpeg* libjpeg, const std::uint8_t* file, std::int64_t bytes, std::int64_t height,
                     std::int64_t width, std::int64_t top, std::int64_t left, std::int64_t rows,
                     std::int64_t columns, std::uint8_t* pixels) {
    Errors errors;
    Decompress image;
    report_to(errors, image, *libjpeg);
    int whole = 0;
    if (!setjmp(errors.place)) {
        libjpeg->create(&image, kVersion, sizeof image);
        libjpeg->read_from_memory(&image, file, bytes);
        libjpeg->read_header(&image, 1);
        if (image.image_width == width && image.image_height == height) {
            decode(image, *libjpeg, {top, left, rows, columns}, pixels);
            whole = 1;
        }
    }
    libjpeg->destroy(&image);
    return whole;
}

}  // extern "C"

}  // namespace flatvq
