! Single-class ARZ for PyClaw: f-waves of d_t (rho, y) + d_x (rho v, y v) = 0, v = y / rho - p, p = k rho**gamma.
! Bale, LeVeque, Mitran & Rossmanith (2003), SIAM J. Sci. Comput. 24(3):955-978.
subroutine rp1(maxmx, meqn, mwaves, maux, mbc, mx, ql, qr, auxl, auxr, fwave, s, amdq, apdq)
  implicit none
  integer, intent(in) :: maxmx, meqn, mwaves, maux, mbc, mx
  double precision, intent(in), dimension(meqn, 1-mbc:maxmx+mbc) :: ql, qr
  double precision, intent(in), dimension(maux, 1-mbc:maxmx+mbc) :: auxl, auxr
  double precision, intent(out) :: fwave(meqn, mwaves, 1-mbc:maxmx+mbc), s(mwaves, 1-mbc:maxmx+mbc)
  double precision, intent(out), dimension(meqn, 1-mbc:maxmx+mbc) :: amdq, apdq
  double precision :: gamma, k, pl, pr, vl, vr, w, c, d1, d2, b
  integer :: i
  common /cparam/ gamma, k
  do i = 2-mbc, mx+mbc
    pl = k * qr(1,i-1)**gamma
    pr = k * ql(1,i)**gamma
    vl = qr(2,i-1) / qr(1,i-1) - pl
    vr = ql(2,i) / ql(1,i) - pr
    w = 0.5d0 * (vl + pl + vr + pr)
    c = gamma * 0.5d0 * (pl + pr)
    d1 = ql(1,i) * vr - qr(1,i-1) * vl
    d2 = ql(2,i) * vr - qr(2,i-1) * vl
    b = (d2 - w * d1) / c
    fwave(1,1,i) = d1 - b
    fwave(2,1,i) = (d1 - b) * w
    fwave(1,2,i) = b
    fwave(2,2,i) = b * (w + c)
    s(1,i) = 0.5d0 * (vl + vr) - c
    s(2,i) = 0.5d0 * (vl + vr)
    amdq(:,i) = 0.d0
    apdq(:,i) = 0.d0
    if (s(1,i) < 0.d0) then
      amdq(:,i) = fwave(:,1,i)
    else
      apdq(:,i) = fwave(:,1,i)
    end if
    apdq(:,i) = apdq(:,i) + fwave(:,2,i)
  end do
end subroutine rp1
