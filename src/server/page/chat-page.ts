export const chatPage = '<!doctype html><title>Millrace</title>';
export const chatPagePolicy = "default-src 'none'";
