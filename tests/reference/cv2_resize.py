"""What OpenCV makes of 100 small random images: tests/data/cv2_resize.bin, which test_loader reads.

    pip install opencv-python-headless numpy
    python3 tests/reference/cv2_resize.py tests/data/cv2_resize.bin

Each image, its size, the size that it is scaled to and the corner of the 10 x 10 crop come from one generator, in the order
below; the test draws them from the same one.  The file holds the crops, 300 bytes each.  Written by OpenCV 5.0.0, numpy 2.4.6.
"""
import sys

import cv2
import numpy

CROP = 10
state = 1


def below(n):
    global state
    state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
    return (state >> 33) % n


with open(sys.argv[1], "wb") as out:
    for _ in range(100):
        width, height = 2 + below(39), 2 + below(39)
        wide, high = CROP + below(31), CROP + below(31)
        x, y = below(wide - CROP + 1), below(high - CROP + 1)
        image = numpy.array([below(256) for _ in range(3 * width * height)], numpy.uint8).reshape(height, width, 3)
        scaled = cv2.resize(image, (wide, high), interpolation=cv2.INTER_LINEAR)
        out.write(scaled[y:y + CROP, x:x + CROP].tobytes())
