/** Binary units, in bytes. */

/** 1,024 bytes. */
export const KiB = 1024;
/** 1,048,576 bytes. */
export const MiB: number = 1024 * KiB;
/** 1,073,741,824 bytes. */
export const GiB: number = 1024 * MiB;
