/** Saved machines. */
export { readImage, saveImage, type Subject } from './image.ts';
