"""Image metrics in torch: PSNR and SSIM."""
