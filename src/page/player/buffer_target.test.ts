import { describe, expect, it } from 'vitest';
import { BYTES_MAX, bufferTarget } from './buffer_target';

const MBIT = 1e6;

describe('the buffer target', () => {
  it('follows the measured bandwidth', () => {
    const seconds = [2, 4, 8, 16].map((bandwidth) => bufferTarget(bandwidth * MBIT, 2 * MBIT, BYTES_MAX).seconds);
    expect(seconds).toEqual([30, 40, 80, 160]);
  });

  it('has bounds, however fast or slow the line', () => {
    expect(bufferTarget(1000 * MBIT, MBIT, BYTES_MAX).seconds).toBe(180);
    expect(bufferTarget(0.1 * MBIT, MBIT, BYTES_MAX).seconds).toBe(30);
  });

  it('never holds more bytes than the browser takes, and never too little to play', () => {
    for (const bitrate of [0.2, 2, 20, 200].map((rate) => rate * MBIT)) {
      const { seconds, bytes } = bufferTarget(1000 * MBIT, bitrate, BYTES_MAX);
      expect(bytes).toBeLessThanOrEqual(BYTES_MAX);
      expect(seconds).toBeGreaterThanOrEqual(12);
    }
  });

  it('is the smallest usual one while nothing is known', () => {
    for (const unknown of [0, NaN, Infinity, -1]) {
      expect(bufferTarget(unknown, MBIT, BYTES_MAX).seconds).toBe(30);
      expect(bufferTarget(MBIT, unknown, BYTES_MAX)).toEqual({ seconds: 30, bytes: BYTES_MAX });
    }
  });
});
